"""Supervised outcome regression: the return that followed each dose, with no look at what was done after it."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.settings import TrainingSettings


class OutcomeSettings(TrainingSettings):
    """Hyper-parameters of outcome regression: `configs/outcome.yaml`."""

    algorithm: Literal["outcome"]
    gamma: float = Field(ge=0, le=1)


class OutcomeRegression(Learner):
    """Networks fitted to the discounted return of the rest of the stay after the dose that was given."""

    settings = OutcomeSettings
    outputs = "values"

    def prepare(self, settings: Sequence[OutcomeSettings]) -> None:
        """Sum up the return that followed each dose."""
        self._returns = returns_to_go(self.rewards, self.buffer.terminals, settings[0].gamma)

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return the mean squared error of the doses that were given, and the mean value."""
        error = self.taken(outputs, rows) - self._returns.gather(-1, rows)
        return {"total_loss": error.square().mean(dim=-1), "mean_q": outputs.mean(dim=(-2, -1))}


def returns_to_go(rewards: Tensor, terminals: Tensor, gamma: float) -> Tensor:
    """Return the (..., n) discounted sum of rewards from each transition to the end of its stay.

    Args:
        rewards: (..., n), in order of stay and step.
        terminals: (n,) bool, true at the end of a stay.
        gamma: discount of one step.
    """
    ends = torch.cat([terminals.new_zeros(1).long() - 1, terminals.nonzero().flatten()])
    returns = rewards
    for _ in range(int(ends.diff().max()) - 1):
        returns = rewards + gamma * returns.roll(-1, dims=-1).masked_fill(terminals, 0.0)
    return returns
