"""What learners with a target network share: it is copied every few epochs, or follows the network at every step."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.settings import TrainingSettings

CHUNK = 16384  # transitions whose target values are computed at once, to bound memory


class CopiedSettings(TrainingSettings):
    """Settings of a learner whose target network is a copy made every few epochs."""

    gamma: float = Field(ge=0, le=1)
    target_update_epochs: int = Field(ge=1)


class FollowingSettings(TrainingSettings):
    """Settings of a learner whose target network moves at every step by a share of the way to the network."""

    gamma: float = Field(ge=0, le=1)
    target_rate: float = Field(gt=0, le=1)


class TargetLearner(Learner):
    """Networks with a target network of the same shape.

    Attributes:
        target_weights: of the shape of `network.weights`.
    """

    def prepare(self, settings: Sequence[Any]) -> None:
        """Take the discount, and a target network equal to the network."""
        super().prepare(settings)
        self.gamma = settings[0].gamma
        self.target_weights = self.network.weights.clone()

    def returns(self, rows: Tensor, ahead: Tensor) -> Tensor:
        """Return the (..., batch) one-step returns r + gamma * ahead, where nothing is ahead of a terminal step.

        Args:
            rows: (..., batch) transitions.
            ahead: (..., batch) values at their next states.
        """
        return self.rewards.gather(-1, rows) + self.gamma * ahead.masked_fill(
            self.buffer.terminals[rows], 0.0
        )

    def next_states(self, rows: Tensor) -> Tensor:
        """Return the (..., batch, n_inputs) next states of (..., batch) transitions."""
        return functional.embedding(rows, self.buffer.next_states)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors that a resumed run needs."""
        return super().state_dict() | {"target_weights": self.target_weights}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        super().load_state_dict(state)
        self.target_weights.copy_(state["target_weights"])
        self.target_changed()

    def target_changed(self) -> None:
        """Do what is due when the target network was replaced; nothing by default."""


class CopiedTarget(TargetLearner):
    """The target network becomes a copy of the network every few epochs.

    What it says of the whole buffer is computed when it changes, and an update reads it instead of running a second
    network.
    """

    def prepare(self, settings: Sequence[Any]) -> None:
        """Take how often the target network is replaced."""
        super().prepare(settings)
        self._target_update_epochs = settings[0].target_update_epochs

    def end_epoch(self, epoch: int) -> None:
        """Copy the network to the target network if its turn has come."""
        if epoch % self._target_update_epochs == 0:
            self.target_weights.copy_(self.network.weights)
            self.target_changed()

    def target_values(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield transitions and the (..., rows, n_actions) outputs of the target network at their next states."""
        for start in range(0, len(self.buffer), CHUNK):
            rows = slice(start, start + CHUNK)
            next_states = self.buffer.next_states[rows].expand(*self.rewards.shape[:-1], -1, -1)
            yield rows, self.network.outputs_with(self.target_weights, next_states)


class FollowingTarget(TargetLearner):
    """The target network follows: after every step it moves by a share of the way to the network."""

    def prepare(self, settings: Sequence[Any]) -> None:
        """Take the share of the way that the target network moves."""
        super().prepare(settings)
        self._rate = settings[0].target_rate

    def update(self, rows: Tensor) -> Losses:
        """Make one optimizer step and move the target network; return the losses before it."""
        losses = super().update(rows)
        self.target_weights.lerp_(self.network.weights, self._rate)
        return losses
