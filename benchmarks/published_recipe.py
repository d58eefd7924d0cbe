"""The published training recipe as a plain PyTorch loop: what speed and results are compared with."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional


def q_network(n_states: int, seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Linear(n_states, 256) ReLU Linear(256, 256) ReLU Linear(256, 25); orthogonal weights, zero biases."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(n_states, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 25)
    )
    for layer in network.modules():
        if not isinstance(layer, nn.Linear):
            continue
        nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return network.to(dtype)


class PublishedRecipe:
    """Squared TD error with a plain DQN target plus alpha times the conservative loss; clip 10; Adam."""

    def __init__(
        self,
        network: nn.Sequential,
        columns: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
        *,
        learning_rate: float = 1e-4,
        alpha: float = 0.05,
        gamma: float = 0.99,
    ) -> None:
        """Train `network` on (states, actions, rewards, next_states, terminals)."""
        self.network = network
        self.target_network = copy.deepcopy(network)
        self._columns = columns
        self._alpha, self._gamma = alpha, gamma
        self._optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)

    def update(self, rows: Tensor) -> dict[str, float]:
        """One optimizer step on the given transitions; reads losses back, as the published trainer does."""
        states, actions, rewards, next_states, terminals = (column[rows] for column in self._columns)
        q_values = self.network(states)
        given = q_values.gather(1, actions[:, None]).squeeze(1)
        with torch.no_grad():
            next_value = self.target_network(next_states).max(dim=1).values
            targets = rewards + self._gamma * (1 - terminals.to(rewards.dtype)) * next_value
        td_loss = functional.mse_loss(given, targets)
        conservative_loss = (q_values.logsumexp(dim=1) - given).mean()
        total_loss = td_loss + self._alpha * conservative_loss
        self._optimizer.zero_grad()
        total_loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self._optimizer.step()
        return {
            "td_loss": td_loss.item(),
            "conservative_loss": conservative_loss.item(),
            "total_loss": total_loss.item(),
        }

    def copy_target(self) -> None:
        """Make the target network a copy of the network."""
        self.target_network.load_state_dict(self.network.state_dict())
