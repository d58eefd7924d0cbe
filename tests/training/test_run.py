"""A run leaves what it promises, continues where it stopped, and refuses what is not its own."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.checkpoints.original_pt import model_from_checkpoint, read_original_checkpoint
from sepsis_cql.common.errors import (
    CheckpointError,
    ReplayError,
    SepsisCQLError,
    SettingsError,
    TrainingError,
)
from sepsis_cql.common.storage import sha256_file
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.interop.exports import write_original
from sepsis_cql.replay.settings import ReplaySettings
from sepsis_cql.training.data import largest_return, load_training_data, new_model
from sepsis_cql.training.learners.cql import ConservativeQLearning
from sepsis_cql.training.outputs import read_run_record
from sepsis_cql.training.run import Run, train_from_replay, train_runs
from sepsis_cql.training.settings import RuntimeSettings

from .made_up import RUNTIME, SETTINGS, make_data, make_transitions


def train(out, data=None, report=lambda progress: None, **changes):
    run = Run(SETTINGS.model_copy(update=changes), out)
    return train_runs([run], data or make_data(), RUNTIME, checkpoints=out / "checkpoints", report=report)[0]


class StopError(Exception):
    pass


def stop_after(epoch):
    def report(progress):
        if progress.epoch == epoch:
            raise StopError

    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory, rendering):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run") / "whole"
    with rendering():
        return out, train(out)


def test_the_record_names_settings_data_device_and_weights(whole):
    out, record = whole
    data = make_data()
    n_steps = math.ceil(len(data.transitions) / SETTINGS.batch_size) * SETTINGS.epochs
    assert read_run_record(out) == record
    assert record.settings == SETTINGS
    assert record.data.sha256 == data.sha256
    assert record.global_step == n_steps
    assert record.runtime.device == "cpu"
    assert record.weights_sha256 == sha256_file(out / "package" / "model.safetensors")
    assert yaml.safe_load((out / "config.yaml").read_text())["settings"] == SETTINGS.model_dump()
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "curves.png").stat().st_size > 10_000


def test_metrics_have_one_line_an_epoch_and_losses_fall(whole):
    lines = [json.loads(line) for line in (whole[0] / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, SETTINGS.epochs + 1))
    assert lines[-1]["td_loss"] < lines[0]["td_loss"]


def test_package_and_published_checkpoint_hold_the_same_network(whole):
    out, record = whole
    model = load_package(out / "package")
    (file,) = (out / "model").glob("*.pt")
    checkpoint = read_original_checkpoint(file)
    assert file.name == f"cql_epoch0006_step{record.global_step:07d}.pt"
    states = torch.tensor(make_data().transitions.states)
    assert torch.equal(model(states).q_values, model_from_checkpoint(checkpoint)(states).q_values)
    optimizer = torch.optim.Adam(model.net.parameters())
    optimizer.load_state_dict(checkpoint.optimizer_state_dict)
    for parameter in model.net.parameters():
        assert float(optimizer.state[parameter]["step"]) == record.global_step
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(whole, tmp_path):
    assert train(tmp_path / "again").weights_sha256 == whole[1].weights_sha256
    assert train(tmp_path / "other", seed=8).weights_sha256 != whole[1].weights_sha256


@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_a_stopped_run_resumes_to_the_same_weights_and_log(whole, tmp_path, epoch):
    with pytest.raises(StopError):
        train(tmp_path / "run", report=stop_after(epoch))
    record = train(tmp_path / "run")
    assert record.weights_sha256 == whole[1].weights_sha256
    assert record.resumed_from_epoch == epoch // 2 * 2
    losses = [
        [
            re.sub(', "steps_per_second".*', "", line)
            for line in (out / "metrics.jsonl").read_text().splitlines()
        ]
        for out in (whole[0], tmp_path / "run")
    ]
    assert losses[0] == losses[1]


def test_a_complete_run_is_left_as_it_is(whole):
    before = (whole[0] / "training.json").stat().st_mtime_ns
    assert train(whole[0]) == whole[1]
    assert (whole[0] / "training.json").stat().st_mtime_ns == before


def test_the_newest_checkpoints_are_kept(whole):
    names = sorted(file.name for file in (whole[0] / "checkpoints").iterdir())
    assert names == ["epoch_0004.safetensors", "epoch_0006.safetensors"]


def test_another_setting_is_refused_with_the_difference(whole):
    with pytest.raises(TrainingError, match=r"settings\.alpha: was 0\.1, now 0\.2"):
        train(whole[0], alpha=0.2)


def test_other_data_is_refused_with_the_difference(whole):
    with pytest.raises(TrainingError, match=r"data\.sha256: was \w+, now \w+"):
        train(whole[0], data=make_data(seed=1))


@pytest.fixture
def stopped(tmp_path):
    with pytest.raises(StopError):
        train(tmp_path / "run", report=stop_after(5))
    return tmp_path / "run", tmp_path / "run" / "checkpoints" / "epoch_0004.safetensors"


@pytest.mark.parametrize("position", [4, 2000, -3])
def test_a_damaged_checkpoint_is_refused_by_name(stopped, position):
    out, newest = stopped
    content = bytearray(newest.read_bytes())
    content[position] ^= 0xFF
    newest.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"epoch_0004\.safetensors: .*damaged"):
        train(out)


def test_a_truncated_checkpoint_is_refused_by_name_and_the_one_before_it_continues(stopped, whole):
    out, newest = stopped
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"epoch_0004\.safetensors: damaged.*Remove it"):
        train(out)
    newest.unlink()
    assert train(out).weights_sha256 == whole[1].weights_sha256


def test_a_foreign_checkpoint_is_refused_by_name(stopped):
    out, newest = stopped
    save_file({"weights": torch.zeros(3)}, newest)
    with pytest.raises(CheckpointError, match=r"epoch_0004\.safetensors: not a training checkpoint"):
        train(out)


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(stopped, whole):
    out, newest = stopped
    with pytest.raises(StopError):
        train(out.parent / "other", report=stop_after(5), alpha=0.2)
    newest.write_bytes((out.parent / "other" / "checkpoints" / newest.name).read_bytes())
    with pytest.raises(TrainingError, match=r"settings\.alpha: was 0\.2, now 0\.1"):
        train(out)


def test_a_checkpoint_holds_weights_target_and_moments(stopped):
    tensors = load_file(stopped[1])
    assert sorted(tensors) == ["exp_avg", "exp_avg_sq", "step", "target_weights", "weights"]
    assert torch.equal(tensors["weights"], tensors["target_weights"])  # copied after epoch 4


def test_nan_loss_stops_and_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    def poison(learner, epoch):
        learner.network.weights[-1] *= math.nan if epoch == 5 else 1

    monkeypatch.setattr(ConservativeQLearning, "end_epoch", poison)
    with pytest.raises(TrainingError, match=r"found td_loss nan.* in epoch 6 .*learning_rate.*epoch_0004"):
        train(tmp_path / "run")
    assert load_file(tmp_path / "run" / "checkpoints" / "epoch_0004.safetensors")["weights"].isfinite().all()
    assert not (tmp_path / "run" / "training.json").exists()


def test_an_existing_directory_needs_resume_or_force(demo_replay, tmp_path):
    replay = open_replay(demo_replay)
    settings = SETTINGS.model_copy(update={"epochs": 2})
    first = train_from_replay(replay, tmp_path / "run", settings, RUNTIME)
    with pytest.raises(SepsisCQLError, match="--resume"):
        train_from_replay(replay, tmp_path / "run", settings, RUNTIME)
    assert train_from_replay(replay, tmp_path / "run", settings, RUNTIME, resume=True) == first
    other = settings.model_copy(update={"seed": 9})
    assert train_from_replay(replay, tmp_path / "run", other, RUNTIME, force=True).settings.seed == 9


def test_a_run_on_the_demo_takes_clinical_units(demo_replay, tmp_path):
    replay = open_replay(demo_replay)
    settings = SETTINGS.model_copy(update={"epochs": 2})
    record = train_from_replay(replay, tmp_path / "run", settings, RUNTIME)
    model = load_package(tmp_path / "run" / "package")
    states = torch.tensor(replay.transitions("test").states)
    assert states.isnan().any()
    assert model(states).q_values.isfinite().all()
    assert "mimic-iv-demo 2.2, training split" in model.config.training_data
    assert record.data.replay_fingerprint in model.config.normalization


def test_states_the_model_does_not_take_are_refused(tmp_path):
    data = make_transitions(n_states=47)
    write_original(data, tmp_path / "replay.parquet")
    with pytest.raises(ReplayError, match=r"its 47 states differ from the model's inputs by \['age_years'"):
        train_from_replay(open_replay(tmp_path / "replay.parquet"), tmp_path / "run", SETTINGS, RUNTIME)
    assert not (tmp_path / "run").exists()


def test_a_device_this_machine_lacks_is_refused(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(SettingsError, match="found cuda, but this machine offers"):
        train_runs(
            [Run(SETTINGS, tmp_path)],
            make_data(),
            RuntimeSettings(device="cuda"),
            checkpoints=tmp_path / "checkpoints",
            report=lambda progress: None,
        )


@pytest.mark.parametrize(("reward_variant", "expected"), [("sparse", 15.0), ("sofa_shaped", 15.6)])
def test_a_model_knows_the_largest_return_of_its_reward(demo_replay, reward_variant, expected):
    data = load_training_data(open_replay(demo_replay), [reward_variant])
    model = new_model(data, SETTINGS.model_copy(update={"reward_variant": reward_variant}))
    assert model.config.attainable_return == expected
    assert new_model(replace(data, made_by=None), SETTINGS).config.attainable_return is None


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99, 1.0])
def test_no_course_of_sofa_returns_more_than_the_largest_return(gamma):
    settings = load_shipped(ReplaySettings, "replay.yaml", {"sofa_weight": 1.0})
    rng = np.random.default_rng(3)
    courses = [rng.integers(0, 25, size=rng.integers(1, 20)) for _ in range(500)]
    courses += [np.arange(25), np.arange(25)[::-1], np.resize([24, 0], 20), np.array([24, 0])]
    found = []
    for sofa in courses:
        rewards = np.append(-settings.sofa_weight * np.diff(sofa), settings.terminal_reward)
        found.append(float(rewards @ gamma ** np.arange(len(rewards))))
    assert max(found) <= largest_return(settings, "sofa_shaped") == 39
    assert max(found) > (38.9 if gamma == 1 else 15)
