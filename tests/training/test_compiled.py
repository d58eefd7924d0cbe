"""A compiled update trains like the plain one, resumes to the bit, and says what it lacks."""

import shutil

import pytest
import torch

from sepsis_cql.common.errors import SettingsError, TrainingError
from sepsis_cql.training.checkpoint import list_checkpoints
from sepsis_cql.training.devices import open_device
from sepsis_cql.training.run import Run, train_runs
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.step.compiled import CompiledUpdate

from .made_up import RUNTIME, make_data, make_settings

COMPILED = RUNTIME.model_copy(update={"compiled": True})
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs the C++ compiler g++")


def train(out, runtime, algorithm="cql"):
    run = Run(make_settings(algorithm), out)
    checkpoints = out / "checkpoints"
    (record,) = train_runs([run], make_data(), runtime, checkpoints=checkpoints, report=lambda progress: None)
    return record


@needs_compiler
@pytest.mark.parametrize("algorithm", ["cql", "behavior_cloning"])
def test_compiled_training_equals_plain_training_up_to_rounding(tmp_path, algorithm):
    plain = train(tmp_path / "plain", RUNTIME, algorithm)
    compiled = train(tmp_path / "compiled", COMPILED, algorithm)
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-4)


@needs_compiler
def test_several_models_are_compiled_too(tmp_path):
    losses = {}
    for name, runtime in (("plain", RUNTIME), ("compiled", COMPILED)):
        runs = [Run(make_settings(seed=seed), tmp_path / name / str(seed)) for seed in (7, 8)]
        checkpoints = tmp_path / name / "checkpoints"
        records = train_runs(
            runs, make_data(), runtime, checkpoints=checkpoints, report=lambda progress: None
        )
        losses[name] = [record.losses for record in records]
    for compiled, plain in zip(losses["compiled"], losses["plain"], strict=True):
        assert compiled == pytest.approx(plain, rel=1e-4)


@needs_compiler
def test_a_compiled_run_resumes_to_the_same_bits(tmp_path):
    whole = train(tmp_path / "run", COMPILED)
    (tmp_path / "run" / "training.json").unlink()
    list_checkpoints(tmp_path / "run" / "checkpoints")[-1].unlink()
    resumed = train(tmp_path / "run", COMPILED)
    assert resumed.resumed_from_epoch == 4
    assert resumed.weights_sha256 == whole.weights_sha256


@needs_compiler
def test_full_batches_are_compiled_and_a_shorter_one_is_not():
    seen = []

    def update(rows):
        if not torch.compiler.is_compiling():
            seen.append(len(rows))
        return rows.sum()

    compiled = CompiledUpdate(update, batch_size=4)
    assert [int(compiled(torch.ones(size, dtype=torch.int64))) for size in (4, 4, 3)] == [4, 4, 3]
    assert seen == [3]


def test_as_many_different_updates_are_compiled_as_a_comparison_has(monkeypatch):
    original = torch.compile  # tracing alone, which counts them, without the machine's compiler
    monkeypatch.setattr(torch, "compile", lambda f, options, **others: original(f, backend="eager", **others))

    class Scaled:
        def __init__(self, scale):
            self.scale = scale

        def update(self, rows):
            return rows.sum() * self.scale

    found = [float(CompiledUpdate(Scaled(0.5 + n).update, batch_size=4)(torch.ones(4))) for n in range(12)]
    assert found == [4 * (0.5 + n) for n in range(12)]


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "no-such-compiler"))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    update = CompiledUpdate(lambda rows: rows * 2.5, batch_size=4)
    with pytest.raises(
        TrainingError,
        match=r"C\+\+ compiler and Python's headers, or train with --set runtime\.compiled=false",
    ):
        update(torch.ones(4))


def test_only_processors_run_compiled_updates(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SettingsError, match="only updates on a cpu are compiled"):
        open_device(RuntimeSettings(device="cuda", compiled=True))
