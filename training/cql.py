"""Conservative Q-Learning for one model or a stack of them: a loss and an update."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sepsis_cql.training.buffer import ResidentBuffer
from sepsis_cql.training.checkpoint import tensors_of_model
from sepsis_cql.training.losses import cql_losses_and_gradient, td_targets
from sepsis_cql.training.network import TrainableNetwork

CHUNK = 16384  # transitions whose target values are computed at once, to bound memory


@dataclass(frozen=True)
class CQLLosses:
    """What one update saw before it changed the weights; (...) tensors on the device.

    Attributes:
        td_loss: mean squared Bellman error.
        conservative_loss: logsumexp gap.
        total_loss: td_loss + alpha * conservative_loss.
        gradient_norm: before clipping.
        mean_q: mean value of all doses.
    """

    td_loss: Tensor
    conservative_loss: Tensor
    total_loss: Tensor
    gradient_norm: Tensor
    mean_q: Tensor


class ConservativeQLearning:
    """One Q-network, or a stack of them, each with its own alpha and rewards.

    The target network changes every few epochs only, so the one-step returns of the whole buffer are computed
    when it does, and an update reads them instead of running a second network.
    """

    def __init__(
        self,
        network: TrainableNetwork,
        buffer: ResidentBuffer,
        rewards: Tensor,
        *,
        alphas: Sequence[float],
        gamma: float,
        target_update_epochs: int,
    ) -> None:
        """Take over `network` and its initial weights.

        Args:
            network: of one model or of a stack.
            buffer: the training split.
            rewards: (..., n), with a leading dimension for a stack.
            alphas: weight of each model's conservative loss.
            gamma: discount of one step.
            target_update_epochs: epochs between copies of the network to the target network.
        """
        self.network = network
        self._buffer = buffer
        self._rewards = rewards
        self._alpha = torch.tensor(alphas, dtype=rewards.dtype, device=rewards.device)
        self._alpha = self._alpha.view(*rewards.shape[:-1], 1, 1)  # (..., 1, 1)
        self._gamma = gamma
        self._target_update_epochs = target_update_epochs
        self._target_weights = network.weights.clone()
        self._targets = torch.empty_like(rewards)  # (..., n)
        self._compute_targets()

    def update(self, rows: Tensor) -> CQLLosses:
        """One optimizer step on the transitions in `rows`, (..., batch) int64."""
        actions = self._buffer.actions[rows]
        targets = self._targets.gather(-1, rows)
        values = self.network.forward(functional.embedding(rows, self._buffer.states))
        td, conservative, gradient = cql_losses_and_gradient(values[-1], actions, targets, self._alpha)
        return CQLLosses(
            td_loss=td,
            conservative_loss=conservative,
            total_loss=td + self._alpha.view(td.shape) * conservative,
            gradient_norm=self.network.descend(values, gradient),
            mean_q=values[-1].mean(dim=(-2, -1)),
        )

    def end_epoch(self, epoch: int) -> None:
        """Copy the network to the target network if its turn has come."""
        if epoch % self._target_update_epochs == 0:
            self._target_weights.copy_(self.network.weights)
            self._compute_targets()

    def model_state(self, index: int) -> dict[str, Tensor]:
        """Weights and Adam's moments of one model, (n_parameters,) each, and its step count."""
        return tensors_of_model(self.network.state_dict(), index)

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors that a resumed run needs."""
        return self.network.state_dict() | {"target_weights": self._target_weights}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.network.load_state_dict(state)
        self._target_weights.copy_(state["target_weights"])
        self._compute_targets()

    def _compute_targets(self) -> None:
        for start in range(0, len(self._buffer), CHUNK):
            rows = slice(start, start + CHUNK)
            next_states = self._buffer.next_states[rows].expand(*self._rewards.shape[:-1], -1, -1)
            q_values = self.network.outputs_with(self._target_weights, next_states)
            self._targets[..., rows] = td_targets(
                self._rewards[..., rows], self._buffer.terminals[rows], q_values, self._gamma
            )
