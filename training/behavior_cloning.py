"""Behaviour cloning: a network whose outputs are the logits of what clinicians do, as a comparator."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from sepsis_cql.training.buffer import ResidentBuffer
from sepsis_cql.training.checkpoint import tensors_of_model
from sepsis_cql.training.network import TrainableNetwork


@dataclass(frozen=True)
class CloningLosses:
    """What one update saw before it changed the weights; (...) tensors on the device.

    Attributes:
        cross_entropy: mean -log probability of the dose that was given.
        accuracy: share of steps whose most probable dose was given.
        gradient_norm: before clipping.
    """

    cross_entropy: Tensor
    accuracy: Tensor
    gradient_norm: Tensor


class BehaviorCloning:
    """One network, or a stack of them, fitted to the doses that were given."""

    def __init__(self, network: TrainableNetwork, buffer: ResidentBuffer) -> None:
        self.network = network
        self._buffer = buffer

    def update(self, rows: Tensor) -> CloningLosses:
        """One optimizer step on the transitions in `rows`, (..., batch) int64."""
        actions = self._buffer.actions[rows].unsqueeze(-1)  # (..., batch, 1)
        values = self.network.forward(functional.embedding(rows, self._buffer.states))
        log_probabilities = values[-1].log_softmax(dim=-1)
        gradient = log_probabilities.exp()
        gradient = gradient.scatter_add_(-1, actions, -gradient.new_ones(actions.shape)) / rows.shape[-1]
        return CloningLosses(
            cross_entropy=-log_probabilities.gather(-1, actions).mean(dim=(-2, -1)),
            accuracy=(values[-1].argmax(dim=-1, keepdim=True) == actions).float().mean(dim=(-2, -1)),
            gradient_norm=self.network.descend(values, gradient),
        )

    def end_epoch(self, epoch: int) -> None:
        """Nothing changes between epochs."""

    def model_state(self, index: int) -> dict[str, Tensor]:
        """Weights and Adam's moments of one model, (n_parameters,) each, and its step count."""
        return tensors_of_model(self.network.state_dict(), index)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors that a resumed run needs."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.network.load_state_dict(state)
