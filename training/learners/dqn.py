"""Deep Q-learning (Mnih et al. 2015): the value of acting best from the next step on, with no conservatism."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sepsis_cql.training.learners.base import Losses
from sepsis_cql.training.learners.targets import CopiedSettings, CopiedTarget
from sepsis_cql.training.settings import TrainingSettings


class DQNSettings(CopiedSettings):
    """Hyper-parameters of deep Q-learning: `configs/dqn.yaml`."""

    algorithm: Literal["dqn"]


class DeepQLearning(CopiedTarget):
    """Q-networks, each with its own rewards."""

    settings: ClassVar[type[TrainingSettings]] = DQNSettings
    outputs = "values"

    def prepare(self, settings: Sequence[Any]) -> None:
        """Compute the first targets."""
        super().prepare(settings)
        self._targets = torch.empty_like(self.rewards)  # (..., n)
        self.target_changed()

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return the mean squared Bellman error of the doses that were given, and the mean Q-value."""
        error = self.taken(outputs, rows) - self._targets.gather(-1, rows)
        return {"total_loss": error.square().mean(dim=-1), "mean_q": outputs.mean(dim=(-2, -1))}

    def target_changed(self) -> None:
        """Compute the one-step returns of all transitions."""
        for rows, q_values in self.target_values():
            self._targets[..., rows] = td_targets(
                self.rewards[..., rows], self.buffer.terminals[rows], q_values, self.gamma
            )


def td_targets(rewards: Tensor, terminals: Tensor, next_q_values: Tensor, gamma: float) -> Tensor:
    """Return (..., n) one-step returns r + gamma max_a Q_target(s', a); the original study uses no double Q.

    Args:
        rewards: (..., n).
        terminals: (n,) bool, true where nothing follows.
        next_q_values: (..., n, n_actions) of the target network.
        gamma: discount of one step.
    """
    return rewards + gamma * next_q_values.amax(dim=-1).masked_fill(terminals, 0.0)
