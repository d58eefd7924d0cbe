"""A recorded update trains like the update it recorded, and can be recorded; runtime files choose devices."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sepsis_cql.training.data import new_model
from sepsis_cql.training.devices import load_runtime
from sepsis_cql.training.learners import outcome
from sepsis_cql.training.learners.registry import LEARNERS
from sepsis_cql.training.run import Run, _new_learner
from sepsis_cql.training.step.cuda_graph import WARM_UP, GraphedUpdate

from .made_up import RUNTIME, make_data, make_settings

ELSEWHERE = torch.device("meta")  # it holds shapes alone, so nothing can read a value there


class Counter:
    """Adds the rows it sees; `record` stands in for a CUDA graph: it fixes tensors once and replays on them."""

    def __init__(self):
        self.sum, self.loss, self.recordings = torch.zeros(()), torch.zeros(()), 0

    def update(self, rows):
        self.sum += rows.sum()
        return {"total_loss": self.sum.clone()}

    def record(self, update, static_rows):
        self.recordings += 1

        def replay():
            self.sum += static_rows.sum()
            self.loss.copy_(self.sum)

        return replay, {"total_loss": self.loss}


def test_every_call_trains_once_and_keeps_its_own_losses():
    counter = Counter()
    update = GraphedUpdate(counter.update, counter.record)
    batches = [torch.full((size,), float(value)) for value in range(1, 9) for size in (4, 3)]
    losses = [update(rows) for rows in batches]
    expected = torch.cumsum(torch.stack([rows.sum() for rows in batches]), dim=0)
    assert [float(loss["total_loss"]) for loss in losses] == expected.tolist()
    assert counter.recordings == 2  # one for each size of batch
    assert len(batches) > 2 * WARM_UP


class StaysThere(TorchDispatchMode):
    """Refuses every operation that reads or makes a tensor anywhere else, as a graph can neither copy nor wait."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs, found)) if isinstance(one, torch.Tensor)]
        assert all(one.device == ELSEWHERE for one in tensors), operation
        return found


def make_elsewhere(algorithm, n_models, monkeypatch):
    """A learner on that device, made as a run makes it."""
    data = make_data()
    if algorithm == "outcome":  # counts the steps of the longest stay, once and before any update
        monkeypatch.setattr(outcome, "returns_to_go", lambda rewards, *_: torch.empty_like(rewards))
    runs = [Run(make_settings(algorithm, seed=seed), None) for seed in range(n_models)]
    models = [new_model(data, run.settings) for run in runs]
    return _new_learner(runs, models, data, ELSEWHERE, RUNTIME)


@pytest.mark.parametrize("n_models", [1, 3])
@pytest.mark.parametrize("algorithm", LEARNERS)
def test_an_update_of_every_learner_stays_on_its_device_and_waits_for_no_value(
    algorithm, n_models, monkeypatch
):
    learner = make_elsewhere(algorithm, n_models, monkeypatch)
    rows = torch.zeros((n_models, 32)[n_models == 1 :], dtype=torch.int64, device=ELSEWHERE)
    with torch.no_grad(), StaysThere():
        losses = learner.update(rows)
    assert {loss.shape for loss in losses.values()} == {rows.shape[:-1]}


@pytest.mark.parametrize("fault", [torch.zeros(32), 0.5])
def test_an_update_that_could_not_be_recorded_is_found(fault, monkeypatch):
    learner = make_elsewhere("dqn", 1, monkeypatch)

    def losses(outputs, rows):
        total = outputs.amax(dim=-1)
        if isinstance(fault, float):
            return {"total_loss": total.mean() if float(total.detach().mean()) > fault else total.sum()}
        return {"total_loss": (total + fault.to(total.device)).mean()}

    learner.losses = losses
    with torch.no_grad(), StaysThere(), pytest.raises((AssertionError, RuntimeError)):
        learner.update(torch.zeros(32, dtype=torch.int64, device=ELSEWHERE))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_cuda_graph_trains_like_the_plain_update():
    weights = [torch.ones(3, device="cuda") for _ in range(2)]

    def step(weight):
        def update(rows):
            weight.mul_(0.5).add_(rows.sum())
            return {"total_loss": weight.sum()}

        return update

    plain, graphed = step(weights[0]), GraphedUpdate(step(weights[1]))
    for value in range(8):
        rows = torch.full((4,), float(value), device="cuda")
        assert float(plain(rows)["total_loss"]) == float(graphed(rows)["total_loss"])


def test_without_a_file_the_settings_of_the_device_are_used(tmp_path):
    assert load_runtime(None, {"device": "cuda"}).device == "cuda"
    assert load_runtime(None, {"device": "cpu", "threads": 1}) == RUNTIME
    automatic = load_runtime(None, {"device": "auto"})
    assert automatic.device == ("cuda" if torch.cuda.is_available() else "cpu")
    file = tmp_path / "mine.yaml"
    file.write_text("device: cpu\nruns_per_model: 3\n")
    assert load_runtime(str(file), {"threads": 2}).runs_per_model == 3
    assert load_runtime(str(file), {"device": "auto"}).device == "auto"  # not the file's
