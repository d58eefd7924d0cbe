"""Published checkpoints import to the original network, and ours are written in their layout."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.checkpoints.original_pt import (
    model_from_checkpoint,
    read_original_checkpoint,
    write_original_checkpoint,
)
from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import CheckpointError
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel

NAME = "cql_epoch0002_step0000010.pt"


@pytest.fixture(scope="session")
def published(shared: Path) -> Path:
    return shared / "published" / "cql_epoch0160_step0088000.pt"


def test_the_published_checkpoint_gives_the_original_q_values(published: Path, tmp_path: Path) -> None:
    out = tmp_path / "package"
    result = CliRunner().invoke(app, ["import-checkpoint", str(published), "--out", str(out)])
    assert result.exit_code == 0, result.output
    original = torch.nn.Sequential(
        torch.nn.Linear(62, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 25),
    )
    weights = torch.load(published, map_location="cpu", weights_only=True)["model_state_dict"]
    original.load_state_dict({name.removeprefix("net."): value for name, value in weights.items()})
    states = torch.randn(200, 62, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(load_package(out)(states).q_values, original(states), atol=1e-6, rtol=0)


def test_the_published_manifest_tells_how_it_was_trained(published: Path) -> None:
    checkpoint = read_original_checkpoint(published)
    config = model_from_checkpoint(checkpoint).config
    assert (checkpoint.epoch, checkpoint.global_step) == (160, 88000)
    assert (config.alpha, config.gamma, config.reward_variant) == (1.0, 0.99, None)
    assert (config.normalization, config.fluid_edges) == ("identity", None)
    assert "data/replay/replay_train.parquet" in config.training_data
    assert checkpoint.optimizer_state_dict["param_groups"][0]["lr"] == 3e-4


def test_without_a_manifest_unrecorded_settings_stay_unknown(written: Path) -> None:
    written.with_name(f"{written.stem}_manifest.json").unlink()
    config = model_from_checkpoint(read_original_checkpoint(written)).config
    assert (config.alpha, config.reward_variant) == (None, None)
    assert "not named" in config.training_data


def test_a_written_checkpoint_opens_like_the_published_one(written: Path, published: Path) -> None:
    ours = torch.load(written, map_location="cpu")
    theirs = torch.load(published, map_location="cpu")
    assert written.name == NAME
    assert ours.keys() == theirs.keys()
    assert ours["model_state_dict"].keys() == theirs["model_state_dict"].keys()
    assert ours["optimizer_state_dict"].keys() == theirs["optimizer_state_dict"].keys()


def test_a_written_checkpoint_returns_the_network_on_normalized_inputs(
    model: SepsisCQLModel, written: Path
) -> None:
    checkpoint = read_original_checkpoint(written)
    states = torch.randn(5, 62)
    imported = model_from_checkpoint(checkpoint)
    assert torch.equal(imported(model.normalize(states)).q_values, model(states).q_values)
    assert imported.config.hidden_sizes == [16, 8]
    assert imported.config.reward_variant == "sparse"
    assert checkpoint.optimizer_state_dict["state"][0]["step"] == 1


def test_the_written_manifest_says_that_inputs_are_normalized_and_how(
    written: Path, statistics: dict[str, list]
) -> None:
    manifest = json.loads(written.with_name(f"{written.stem}_manifest.json").read_text())
    assert "NORMALISED" in manifest["inputs"]["note"]
    assert manifest["inputs"]["normalizer"]["names"] == statistics["names"]
    assert manifest["inputs"]["normalizer"]["scale"] == pytest.approx(statistics["scale"])
    assert manifest["metrics"] == {"td_loss_mean": 1.5}
    assert (manifest["algorithm"], manifest["epoch"], manifest["global_step"]) == ("cql", 2, 10)


def test_writing_twice_gives_the_same_bytes(model: SepsisCQLModel, tmp_path: Path) -> None:
    def write(name: str) -> bytes:
        return write_original_checkpoint(
            model, tmp_path / name, epoch=1, global_step=2, optimizer_state={}, facts={}
        ).read_bytes()

    assert write("a") == write("b")


def test_import_refuses_to_overwrite_without_force(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "package"
    command = ["import-checkpoint", str(written), "--out", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    before = (out / "model.safetensors").read_bytes()
    refused = CliRunner().invoke(app, command)
    assert "--force" in str(refused.exception)
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    assert (out / "model.safetensors").read_bytes() == before


def test_a_refused_import_leaves_nothing_behind(written: Path, tmp_path: Path) -> None:
    written.write_bytes(b"not a checkpoint")
    result = CliRunner().invoke(app, ["import-checkpoint", str(written), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, CheckpointError)
    assert not (tmp_path / "out").exists()
