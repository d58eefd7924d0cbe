"""On an NVIDIA GPU a run is the same run: as on a processor, resumed, and as one of several trained together."""

import pytest
import torch
from safetensors.torch import load_file

from sepsis_cql.training.learners.registry import LEARNERS
from sepsis_cql.training.run import Run, train_runs
from sepsis_cql.training.settings import RuntimeSettings

from .made_up import RUNTIME, make_data, make_settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = RuntimeSettings(device="cuda")
EPOCHS = 12  # enough batches of each size for a recorded graph
CHANGES = [
    {"seed": 7},
    {"seed": 8, "learning_rate": 3e-4, "alpha": 1.0},
    {"seed": 7, "alpha": 0.5, "reward_variant": "sofa_shaped"},
]


def train(out, changes, runtime, report=lambda progress: None, algorithm="cql"):
    settings = [make_settings(algorithm, epochs=EPOCHS, **change) for change in changes]
    runs = [Run(one, out / str(index)) for index, one in enumerate(settings)]
    train_runs(runs, make_data(), runtime, checkpoints=out / "checkpoints", report=report)
    return [load_file(run.out / "package" / "model.safetensors") for run in runs]


def assert_close(found, expected, tolerance):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance)


def test_a_run_learns_what_it_learns_on_a_processor(tmp_path):
    (found,) = train(tmp_path / "cuda", CHANGES[:1], CUDA)
    (expected,) = train(tmp_path / "cpu", CHANGES[:1], RUNTIME)
    assert_close(found, expected, 2e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_run_of_a_job_equals_its_single_run(tmp_path, precision):
    runtime = CUDA.model_copy(update={"precision": precision})
    together = train(tmp_path / "together", CHANGES, runtime)
    for index, change in enumerate(CHANGES):
        (single,) = train(tmp_path / f"single{index}", [change], runtime)
        assert_close(together[index], single, 2e-4 if precision == "fp32" else 2e-2)


@pytest.mark.parametrize("algorithm", LEARNERS)
@pytest.mark.parametrize("n_runs", [1, 2])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, n_runs, algorithm):
    def stop(progress):
        if progress.epoch == 5:
            raise KeyboardInterrupt

    changes = [{"seed": 7}, {"seed": 8, "learning_rate": 3e-4}][:n_runs]
    whole = train(tmp_path / "whole", changes, CUDA, algorithm=algorithm)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "resumed", changes, CUDA, stop, algorithm)
    resumed = train(tmp_path / "resumed", changes, CUDA, algorithm=algorithm)
    for found, expected in zip(resumed, whole, strict=True):
        assert all(torch.equal(found[name], value) for name, value in expected.items())
