"""The AI Clinician (Komorowski et al. 2018): states are clusters, values are those of the counted process."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.configuration_sepsis_cql import BINS
from sepsis_cql.modeling_sepsis_cql import NEVER
from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.settings import TrainingSettings, Widths

N_ACTIONS = BINS * BINS
TOLERANCE = 1e-8  # of values, in units of reward
CHUNK = 16384  # states assigned to clusters at once, to bound memory


class AIClinicianSettings(TrainingSettings):
    """Hyper-parameters of the AI Clinician: `configs/ai_clinician.yaml`; its hidden size is the number of clusters."""

    algorithm: Literal["ai_clinician"]
    hidden_sizes: Widths = Field(min_length=1, max_length=1)
    gamma: float = Field(ge=0, le=1)
    min_count: int = Field(ge=1)


class AIClinician(Learner):
    """Tables in the shape of a network: its hidden units are clusters of k-means, its last layer their values.

    An epoch is one round of Lloyd's algorithm over the whole buffer, after which the table is solved anew.
    """

    settings = AIClinicianSettings
    outputs = "values"
    hidden_units = "nearest"

    def prepare(self, settings: Sequence[AIClinicianSettings]) -> None:
        """Draw the first clusters among the states.

        Raises:
            TrainingError: there are fewer transitions than clusters.
        """
        self._gamma, self._min_count = settings[0].gamma, settings[0].min_count
        n_clusters = self.network.sizes[1]
        if n_clusters > len(self.buffer):
            raise TrainingError(
                f"hidden_sizes: found {n_clusters} clusters for {len(self.buffer)} transitions, expected no more "
                "clusters than transitions. Lower it with --set training.hidden_sizes=[N]."
            )
        for index, one in enumerate(settings):
            order = torch.randperm(len(self.buffer), generator=torch.Generator().manual_seed(one.seed))
            drawn = order[:n_clusters].to(self.buffer.states.device)
            centers = self.buffer.states[drawn].to(self.network.weights.dtype)
            self._write(index, centers, torch.zeros(n_clusters, N_ACTIONS, dtype=centers.dtype))

    def update(self, rows: Tensor) -> Losses:
        """Return the mean squared distance of (..., batch) states from their clusters; nothing changes yet."""
        flat = rows.view(-1, rows.shape[-1])
        distances = [self._assign(index, self.buffer.states[one])[1].mean() for index, one in enumerate(flat)]
        return {"total_loss": torch.stack(distances).view(rows.shape[:-1])}

    def end_epoch(self, epoch: int) -> None:
        """Move every cluster to the mean of its states, and solve the process of the new clusters."""
        states = self.buffer.states.to(self.network.weights.dtype)
        for index, rewards in enumerate(self.rewards.view(-1, len(self.buffer))):
            assigned = self._assign(index, states)[0]
            centers = self._centers(index).clone()
            sizes = torch.bincount(assigned, minlength=len(centers)).to(centers.dtype).unsqueeze(-1)
            # on a processor, as a GPU adds in another order each time
            sums = torch.zeros_like(centers, device="cpu").index_add_(0, assigned.cpu(), states.cpu())
            sums = sums.to(centers.device)
            centers = torch.where(sizes > 0, sums / sizes.clamp(min=1), centers)
            self._write(index, centers, torch.zeros(len(centers), N_ACTIONS, dtype=centers.dtype))
            before, after = self._assign(index, states)[0], self._assign(index, self.buffer.next_states)[0]
            table = solve_counts(
                before.cpu().numpy(),
                self.buffer.actions.cpu().numpy(),
                rewards.double().cpu().numpy(),
                after.cpu().numpy(),
                self.buffer.terminals.cpu().numpy(),
                n_clusters=len(centers),
                min_count=self._min_count,
                gamma=self._gamma,
            )
            self._write(index, centers, torch.tensor(np.maximum(table, NEVER), dtype=centers.dtype))

    def _centers(self, index: int) -> Tensor:
        n_inputs, n_clusters, _ = self.network.sizes
        weights = self.network.weights.view(-1, self.network.weights.shape[-1])[index]
        return weights[: n_clusters * n_inputs].view(n_clusters, n_inputs)

    def _assign(self, index: int, states: Tensor) -> tuple[Tensor, Tensor]:
        """Cluster of (n, n_inputs) states and squared distance from it."""
        centers = self._centers(index)
        found = [
            (part.to(centers.dtype) @ centers.mT - centers.square().sum(dim=1) / 2).max(dim=1)
            for part in states.split(CHUNK)
        ]
        best = torch.cat([one.values for one in found])
        return torch.cat([one.indices for one in found]), states.square().sum(dim=1) - 2 * best

    def _write(self, index: int, centers: Tensor, table: Tensor) -> None:
        """Put clusters and their (n_clusters, 25) values into the layers of a model's network."""
        biases = -centers.square().sum(dim=1) / 2  # so that the largest input is that of the nearest center
        layers = (
            centers.flatten(),
            biases,
            table.mT.flatten().to(centers.device),
            centers.new_zeros(N_ACTIONS),
        )
        self.network.weights.view(-1, self.network.weights.shape[-1])[index] = torch.cat(layers)


def solve_counts(
    before: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    after: np.ndarray,
    terminals: np.ndarray,
    n_clusters: int,
    min_count: int,
    gamma: float,
) -> np.ndarray:
    """Return (n_clusters, 25) optimal values of the process with the observed frequencies, by value iteration.

    The most frequent dose of a cluster is always considered, so that every cluster has one.

    Args:
        before: (n,) clusters of the states.
        actions: (n,) dose ids.
        rewards: (n,).
        after: (n,) clusters of the next states.
        terminals: (n,) bool.
        n_clusters: number of clusters.
        min_count: least number of times a dose must have been given in a cluster.
        gamma: discount of one step, below 1 or with episodes that end.
    """
    pairs = before * N_ACTIONS + actions
    shape = (n_clusters, N_ACTIONS)
    counts = np.bincount(pairs, minlength=n_clusters * N_ACTIONS)
    considered = counts.reshape(shape) >= min_count
    considered[np.arange(n_clusters), counts.reshape(shape).argmax(axis=1)] = True
    values = np.zeros(n_clusters)
    while True:
        returns = rewards + gamma * values[after] * ~terminals
        sums = np.bincount(pairs, weights=returns, minlength=n_clusters * N_ACTIONS)
        q_values = np.where(considered, (sums / np.maximum(counts, 1)).reshape(shape), -np.inf)
        updated = q_values.max(axis=1)
        if np.abs(updated - values).max() < TOLERANCE:
            return q_values
        values = updated
