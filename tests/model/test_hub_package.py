"""A package loads to the saved network, or not at all; loading never runs the code it holds."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sepsis_cql.checkpoints.hub_package import load_package, save_package
from sepsis_cql.common.errors import CheckpointError, SepsisCQLError
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.feature_extraction_sepsis_cql import SepsisCQLFeatureExtractor
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel


def edit_config(package: Path, **changes: Any) -> None:
    values = json.loads((package / "config.json").read_text())
    (package / "config.json").write_text(json.dumps({**values, **changes}))


def edit_weights(package: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    file = package / "model.safetensors"
    save_file(change(load_file(file)), file)


def edit_bytes(package: Path, change: Callable[[bytes], bytes]) -> None:
    file = package / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))


def test_a_loaded_package_gives_identical_q_values(model: SepsisCQLModel, package: Path) -> None:
    states = torch.randn(5, 62)
    states[0, 3] = torch.nan
    loaded = load_package(package)
    assert torch.equal(loaded(states).q_values, model(states).q_values)
    assert not loaded.training
    assert loaded.config.vasopressor_edges == model.config.vasopressor_edges


def test_loading_leaves_the_random_numbers_alone(package: Path) -> None:
    before = torch.get_rng_state()
    load_package(package)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaded_network_can_be_trained_on(package: Path) -> None:
    loaded = load_package(package)
    loaded(torch.zeros(1, 62)).q_values.sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_loading_does_not_run_code_of_the_package(package: Path) -> None:
    for file in package.glob("*.py"):
        file.write_text("raise SystemExit('code of the package was run')")
    edit_config(package, auto_map={"AutoModel": "modeling_sepsis_cql.Other"})
    assert load_package(package).config.model_type == "sepsis_cql"


def test_inputs_in_another_order_are_not_packed(
    feature_extractor: SepsisCQLFeatureExtractor, tmp_path: Path
) -> None:
    names = SepsisCQLConfig().state_names
    model = SepsisCQLModel(SepsisCQLConfig(state_names=[names[1], names[0], *names[2:]], hidden_sizes=[4]))
    with pytest.raises(CheckpointError, match="state_names"):
        save_package(model, feature_extractor, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "net.2.bias"}, "missing: net.2.bias"),
        (lambda t: {k: v for k, v in t.items() if k != "scale"}, "missing: scale"),
        (lambda t: {**t, "net.6.weight": torch.zeros(2)}, "unexpected: net.6.weight"),
        (lambda t: {**t, "net.0.weight": t["net.0.weight"][:, :-1].clone()}, "another shape: net.0.weight"),
        (lambda t: {**t, "net.0.weight": t["net.0.weight"].half()}, "another dtype: net.0.weight"),
        (lambda t: {**t, "mean": t["mean"].double()}, "another dtype: mean"),
        (lambda t: {**t, "net.0.weight": t["net.0.weight"] * torch.nan}, "NaN or infinity: net.0.weight"),
        (lambda t: {**t, "fill": t["fill"] / 0}, "NaN or infinity: fill"),
        (lambda t: {**t, "scale": -t["scale"]}, "positive scale"),
        (lambda t: {**t, "clip_low": t["clip_high"] + 1}, "clip_low <= clip_high"),
    ],
)
def test_weights_that_are_not_the_saved_ones_are_refused(package: Path, change: Any, message: str) -> None:
    edit_weights(package, change)
    with pytest.raises(CheckpointError, match=f"model.safetensors: .*{message}"):
        load_package(package)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-4],
        lambda content: content[: len(content) // 2],
        lambda content: content[:7],
        lambda content: content + b"\0",
        lambda content: content + content,
        lambda content: b"",
        lambda content: struct.pack("<Q", 2**60) + content[8:],
        lambda content: content.replace(b'"F32"', b'"F99"', 1),
        lambda content: b"PK\x03\x04" + content[4:],
    ],
)
def test_truncated_extended_or_overwritten_weights_are_refused(
    package: Path, change: Callable[[bytes], bytes]
) -> None:
    edit_bytes(package, change)
    with pytest.raises(CheckpointError, match="not an intact safetensors file"):
        load_package(package)


def test_oversized_files_are_refused_before_they_are_read(package: Path) -> None:
    with (package / "model.safetensors").open("r+b") as stream:
        stream.truncate(2**28)  # sparse: takes no room on disk
    with pytest.raises(CheckpointError, match=f"{2**28} bytes"):
        load_package(package)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_sizes": [16, 9]}, "another shape: net.2.bias"),
        ({"hidden_sizes": [16]}, "unexpected: net.4.bias"),
        ({"hidden_sizes": [2**30, 2**30]}, "found 2 hidden layers of 46"),
        ({"normalization": "identity"}, "is not the identity"),
        ({"gamma": "high"}, "gamma"),
        ({"gamma": float("nan")}, "NaN or infinity is no number of JSON"),
        ({"state_names": ["a"]}, "state_names"),
        ({"fluid_edges": [1.0]}, "fluid_edges"),
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"alhpa": 0.1}, r"\['alhpa'\] unknown"),
        ({"quantization_config": {"quant_method": "other"}}, "quantization_config"),
        ({"dtype": "float16"}, "dtype"),
        ({"dtype": "load"}, "dtype"),
    ],
)
def test_a_config_that_disagrees_is_refused(package: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(package, **changes)
    with pytest.raises(SepsisCQLError, match=message):
        load_package(package)


def test_statistics_without_a_normalizer_are_refused(
    feature_extractor: SepsisCQLFeatureExtractor, tmp_path: Path
) -> None:
    model = SepsisCQLModel(SepsisCQLConfig(hidden_sizes=[4], normalization="train split of replay abc"))
    save_package(model, feature_extractor, tmp_path)
    with pytest.raises(CheckpointError, match="does nothing"):
        load_package(tmp_path)


def test_a_config_without_a_field_is_refused(package: Path) -> None:
    values = json.loads((package / "config.json").read_text())
    del values["normalization"]
    (package / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"\['normalization'\] missing"):
        load_package(package)


@pytest.mark.parametrize("content", ["[]", "null", '{"model_type": 3}'])
def test_a_config_of_another_kind_is_refused(package: Path, content: str) -> None:
    (package / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="model_type"):
        load_package(package)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(package: Path, name: str) -> None:
    (package / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: not found"):
        load_package(package)


def test_a_revision_belongs_to_a_hub_id(package: Path) -> None:
    with pytest.raises(CheckpointError, match="revision"):
        load_package(package, revision="v1")


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a directory here nor a model the Hub gave"):
        load_package(tmp_path / "absent" / "package")


@pytest.mark.parametrize("name", ["net.2.bias", "fill"])
def test_the_library_loader_refuses_missing_weights_too(package: Path, name: str) -> None:
    edit_weights(package, lambda t: {k: v for k, v in t.items() if k != name})
    with pytest.raises(ValueError, match=f"missing_keys.*{name}"):
        SepsisCQLModel.from_pretrained(package)


def test_an_older_package_without_the_attainable_return_is_read(package: Path) -> None:
    values = json.loads((package / "config.json").read_text())
    values.pop("attainable_return", None)
    (package / "config.json").write_text(json.dumps(values))
    assert load_package(package).config.attainable_return is None
    edit_config(package, attainable_return=15.0)
    assert load_package(package).config.attainable_return == 15
    edit_config(package, attainable_return=-1.0)
    with pytest.raises(CheckpointError, match="attainable_return"):
        load_package(package)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, "bfloat16"])
def test_reduced_precision_is_not_taken_over_and_said(package: Path, dtype: torch.dtype | str) -> None:
    states = 100 * torch.randn(256, 62, generator=torch.Generator().manual_seed(0))
    whole = SepsisCQLModel.from_pretrained(package)
    with pytest.warns(UserWarning, match="expected float32: reduced precision changes"):
        model = SepsisCQLModel.from_pretrained(package, dtype=dtype)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert torch.equal(model.greedy_action(states), whole.greedy_action(states))
    assert torch.equal(model(states).q_values, whole(states).q_values)
