"""A recorded update trains like the update it recorded; runtime files choose devices."""

import pytest
import torch

from sepsis_cql.training.devices import load_runtime
from sepsis_cql.training.step.cuda_graph import WARM_UP, GraphedUpdate

from .made_up import RUNTIME


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
