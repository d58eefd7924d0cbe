"""What the evaluator of a policy sees of a decision.

Three groups of columns: rich features of the state, shared by all actions; an intercept and a few principal components
for each action; and how much more often the evaluated policy takes the action than the clinicians do. With the last,
the fitted equations hold on average under that reweighting, which takes out the first-order error of an evaluator that
is too plain for the true values (the "clever covariate" of van der Laan & Gruber 2012).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sepsis_cql.evaluation.cache import cache_last
from sepsis_cql.evaluation.settings import FqeSettings
from sepsis_cql.replay.rows.actions import N_ACTIONS

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Decisions:
    """States at which somebody acts, and how the two policies act there.

    Attributes:
        inputs: (n, d) network inputs without NaN.
        policy: (n, 25) probabilities of the evaluated policy.
        behavior: (n, 25) probabilities of the clinicians.
        device: where features of them are computed.
    """

    inputs: np.ndarray
    policy: np.ndarray
    behavior: np.ndarray
    device: torch.device = CPU

    def rows(self, rows: np.ndarray) -> "Decisions":
        """Return some of the decisions, by a (n,) mask or by their positions."""
        return replace(self, inputs=self.inputs[rows], policy=self.policy[rows], behavior=self.behavior[rows])

    def tensor(self, values: np.ndarray) -> Tensor:
        """Return an array as float64 on the device."""
        return torch.tensor(values, dtype=torch.float64, device=self.device)


@dataclass(frozen=True)
class Basis:
    """Features of states, actions and policies.

    Attributes:
        directions: (d, n_features) random projections, rectified after adding the offsets.
        offsets: (n_features,) thresholds.
        components: (d, m) principal directions of the inputs.
        settings: limits of the ratios of policy to clinicians.
    """

    directions: Tensor
    offsets: Tensor
    components: Tensor
    settings: FqeSettings

    def taken_and_expected(self, decisions: Decisions, actions: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return (n, p) features of each state with the action taken there, and expected under the evaluated policy."""
        taken = one_hot(torch.tensor(actions, device=decisions.device), N_ACTIONS).double()
        first, second = self._features(decisions, [taken, decisions.tensor(decisions.policy)])
        return first, second

    def expected(self, decisions: Decisions) -> Tensor:
        """Return (n, p) expected features of each state under the evaluated policy."""
        return self._features(decisions, [decisions.tensor(decisions.policy)])[0]

    def q_values(self, decisions: Decisions, parameters: Tensor) -> Tensor:
        """Return (n, 25) Q-values of every action."""
        x = decisions.tensor(decisions.inputs)
        rich, few, ratios = self._rich(x), self._few(x), self._ratios(decisions)
        shared, each, tilt = torch.split(parameters, [rich.shape[1], N_ACTIONS * few.shape[1], len(ratios)])
        values = (rich @ shared)[:, None] + few @ each.reshape(N_ACTIONS, -1).T
        return values + sum(weight * ratio for weight, ratio in zip(tilt, ratios, strict=True))

    def _features(self, decisions: Decisions, weights: list[Tensor]) -> list[Tensor]:
        """(n, p) features for each kind of (n, 25) weights of the actions."""
        x = decisions.tensor(decisions.inputs)
        rich, few, ratios = self._rich(x), self._few(x), self._ratios(decisions)
        n_rich, n_each = rich.shape[1], N_ACTIONS * few.shape[1]
        found = []
        for shares in weights:
            features = rich.new_empty(len(x), n_rich + n_each + len(ratios))
            features[:, :n_rich] = rich
            each = features[:, n_rich : n_rich + n_each].unflatten(1, (N_ACTIONS, few.shape[1]))
            torch.mul(shares[:, :, None], few[:, None, :], out=each)
            for column, ratio in enumerate(ratios, n_rich + n_each):
                features[:, column] = (shares * ratio).sum(dim=1)
            found.append(features)
        return found

    def _rich(self, x: Tensor) -> Tensor:
        random = torch.relu(x @ self.directions.to(x.device) + self.offsets.to(x.device))
        return torch.cat([x.new_ones(len(x), 1), x, random], dim=1)

    def _few(self, x: Tensor) -> Tensor:
        return torch.cat([x.new_ones(len(x), 1), x @ self.components.to(x.device)], dim=1)

    def _ratios(self, decisions: Decisions) -> tuple[Tensor, Tensor]:
        limits = self.settings
        policy, behavior = decisions.tensor(decisions.policy), decisions.tensor(decisions.behavior)
        ratio = policy / behavior.clamp(min=limits.smallest_probability)
        logs = ratio.log().clamp(-limits.largest_log_ratio, limits.largest_log_ratio)
        return ratio.clamp(max=limits.largest_ratio), logs


def new_basis(inputs: np.ndarray, settings: FqeSettings, seed: int) -> Basis:
    """Draw random directions and compute principal components of (n, d) inputs; fewer of both for little data."""
    n, d = inputs.shape
    n_features = min(settings.features, n // settings.transitions_per_feature)
    n_components = min(settings.components, n // (N_ACTIONS * settings.transitions_per_feature))
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(d, n_features, generator=generator) / d**0.5
    offsets = torch.randn(n_features, generator=generator)
    components = _principal_directions(inputs)[:, :n_components].copy()
    return Basis(directions.double(), offsets.double(), torch.tensor(components), settings)


@cache_last
def _principal_directions(inputs: np.ndarray) -> np.ndarray:
    """(d, d) of (n, d) inputs, in columns, the largest first."""
    centered = inputs.astype(np.float64) - inputs.mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T @ centered)
    return vectors[:, ::-1]
