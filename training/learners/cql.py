"""Conservative Q-Learning (Kumar et al. 2020, eq. 4) on a deep Q-network."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.learners.dqn import DeepQLearning
from sepsis_cql.training.settings import TrainingSettings


class CQLSettings(TrainingSettings):
    """Hyper-parameters of Conservative Q-Learning: `configs/cql.yaml`."""

    algorithm: Literal["cql"]
    alpha: float = Field(ge=0, allow_inf_nan=False)
    gamma: float = Field(ge=0, le=1)
    target_update_epochs: int = Field(ge=1)


class ConservativeQLearning(DeepQLearning):
    """Q-networks, each with its own alpha and rewards."""

    settings = CQLSettings
    of_each_model = Learner.of_each_model | {"alpha"}

    def prepare(self, settings: Sequence[CQLSettings]) -> None:
        """Take alpha of each model."""
        super().prepare(settings)
        self._alpha = self.of_models([one.alpha for one in settings])[..., None, None]  # (..., 1, 1)

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return TD loss, conservative loss, td + alpha * conservative, and the mean Q-value."""
        return self.losses_and_gradient(outputs, rows)[0]

    def losses_and_gradient(self, outputs: Tensor, rows: Tensor) -> tuple[Losses, Tensor]:
        """Return the losses and the gradient of td + alpha * conservative in closed form.

        The closed form spares automatic differentiation; a test compares the two.
        """
        targets = self._targets.gather(-1, rows)
        td, conservative, gradient = cql_losses_and_gradient(
            outputs, self.buffer.actions[rows], targets, self._alpha
        )
        losses = {
            "td_loss": td,
            "conservative_loss": conservative,
            "total_loss": td + self._alpha.view(td.shape) * conservative,
            "mean_q": outputs.mean(dim=(-2, -1)),
        }
        return losses, gradient


def cql_losses_and_gradient(
    q_values: Tensor, actions: Tensor, targets: Tensor, alpha: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return TD loss (...), conservative loss (...) and the gradient of td + alpha * conservative.

    The TD loss is the mean squared Bellman error of the doses that were given. The conservative loss,
    logsumexp Q(s, a) - Q(s, a_given), is minus the log share of the given dose in softmax Q(s, .), so its
    gradient pushes every dose down by its share and the given dose up by one.

    Args:
        q_values: (..., batch, n_actions) estimated returns.
        actions: (..., batch) int64, the clinician's action.
        targets: (..., batch) one-step returns.
        alpha: weight of the conservative loss; for several models (models, 1, 1).

    Returns:
        The two losses, and the (..., batch, n_actions) gradient with respect to the Q-values.
    """
    given = actions.unsqueeze(-1)  # (..., batch, 1)
    error = q_values.gather(-1, given) - targets.unsqueeze(-1)
    log_shares = q_values.log_softmax(dim=-1)
    td_loss = error.square().mean(dim=(-2, -1))
    conservative_loss = -log_shares.gather(-1, given).mean(dim=(-2, -1))
    weight = alpha / targets.shape[-1]
    given_gradient = error.mul_(2 / targets.shape[-1]).sub_(weight)
    is_given = torch.arange(q_values.shape[-1], device=q_values.device) == given
    gradient = log_shares.exp_().mul_(weight).add_(torch.where(is_given, given_gradient, 0.0))
    return td_loss, conservative_loss, gradient
