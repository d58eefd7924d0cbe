"""The training step as plain PyTorch writes it best: what our own step has to beat to be worth its lines."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional


class StockRecipe:
    """The published loss by automatic differentiation, PyTorch's fused Adam, and targets kept between copies."""

    def __init__(
        self,
        network: nn.Sequential,
        columns: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
        *,
        compiled: bool,
        learning_rate: float = 1e-4,
        alpha: float = 0.05,
        gamma: float = 0.99,
    ) -> None:
        """Train `network` on (states, actions, rewards, next_states, terminals).

        Args:
            network: changes in place.
            columns: of the training split.
            compiled: whether PyTorch compiles the losses and their gradient; clipping and Adam stay as they are.
            learning_rate: of Adam.
            alpha: weight of the conservative loss.
            gamma: discount of one step.
        """
        self.network = network
        self._columns = columns
        self._alpha, self._gamma = alpha, gamma
        self._losses = torch.compile(self._plain_losses, dynamic=False) if compiled else self._plain_losses
        self._optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
        self.copy_target()

    def update(self, rows: Tensor) -> dict[str, Tensor]:
        """One optimizer step on the given transitions; losses stay tensors, as ours do."""
        states, actions = self._columns[:2]
        total, td, conservative = self._losses(states[rows], actions[rows], self._targets[rows])
        self._optimizer.zero_grad()
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self._optimizer.step()
        return {
            "td_loss": td.detach(),
            "conservative_loss": conservative.detach(),
            "total_loss": total.detach(),
            "gradient_norm": norm,
        }

    @torch.no_grad()
    def copy_target(self) -> None:
        """Make the target network a copy of the network, and compute the targets of all transitions by it."""
        _, _, rewards, next_states, terminals = self._columns
        self.target_network = copy.deepcopy(self.network)
        next_values = torch.cat([self.target_network(part).amax(dim=1) for part in next_states.split(16384)])
        self._targets = rewards + self._gamma * next_values.masked_fill(terminals, 0.0)

    def _plain_losses(
        self, states: Tensor, actions: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Total, TD and conservative loss."""
        q_values = self.network(states)
        given = q_values.gather(1, actions[:, None]).squeeze(1)
        td = functional.mse_loss(given, targets)
        conservative = (q_values.logsumexp(dim=1) - given).mean()
        return td + self._alpha * conservative, td, conservative
