"""Fitted Q evaluation in linear features: its fixed point in one solution.

Repeating y = r + gamma * sum_a' pi(a'|s') Q(s', a') and regressing Q on y ends where
(F'F + ridge - F'N) theta = F'r, with F the features of (s, a) and N the discounted expected features of the next step;
that system is solved directly (LSTD-Q, Lagoudakis & Parr 2003). Clipping the targets to the attainable range keeps a
diverging evaluator in bounds, but biases a good one: near the range's end errors are cut off on one side. So the
clipped sweeps are run from the solution only to be shown beside it.

All of it is in float64. Where a policy leaves the data, the equations are nearly singular, and in float32 the order of
sums, which is another on every machine, decided what such a policy was said to be worth.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sepsis_cql.evaluation.settings import FqeSettings


@dataclass(frozen=True)
class FqeData:
    """Transitions as the evaluator needs them.

    Attributes:
        features: (n, p) float64 features of each state and its action.
        next_features: (n, p) gamma times their expectation in the next state under the evaluated policy; 0 where
            the episode ends.
        rewards: (n,) in units of the attainable bound.
        episode: (n,) int64 index of the episode.
    """

    features: Tensor
    next_features: Tensor
    rewards: Tensor
    episode: Tensor

    def rows(self, mask: np.ndarray) -> "FqeData":
        """Return the transitions where a (n,) mask is true; the episodes keep their index."""
        keep = torch.tensor(np.flatnonzero(mask), device=self.rewards.device)
        return FqeData(self.features[keep], self.next_features[keep], self.rewards[keep], self.episode[keep])


@dataclass(frozen=True)
class FqeSolution:
    """A fitted evaluator.

    Attributes:
        parameters: (p,) float64; Q = features . parameters.
        jacobian: (p, p) matrix of the equations they solve.
        bounded_parameters: (p,) float64, with targets clipped to [-1, 1], the attainable range.
        sweeps: bounded sweeps that were made.
        change: mean absolute change of the targets in the last sweep, in units of the bound.
    """

    parameters: Tensor
    jacobian: Tensor
    bounded_parameters: Tensor
    sweeps: int
    change: float


def multiply(data: FqeData, weighted: Tensor | None = None) -> Tensor:
    """Return (2, p, p): F'F and F'N, which of several parts of the transitions add up.

    Args:
        data: the transitions.
        weighted: (n, p) features times how often each transition is in the data set; once by default.
    """
    left = (data.features if weighted is None else weighted).T
    return torch.stack([left @ data.features, left @ data.next_features])


def solve(
    data: FqeData, settings: FqeSettings, counts: Tensor | None = None, products: Tensor | None = None
) -> FqeSolution:
    """Solve for the fixed point of fitted Q evaluation, with and without bounded targets.

    Args:
        data: the transitions.
        settings: ridge, and when the bounded sweeps end.
        counts: (n,) how often each transition is in the data set; once by default.
        products: what `multiply` says of them, where it is known.
    """
    weighted = data.features if counts is None else data.features * counts[:, None]
    counts = torch.ones_like(data.rewards) if counts is None else counts
    gram, ahead = multiply(data, weighted) if products is None else products
    gram = gram + settings.ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    jacobian = gram - ahead
    parameters = torch.linalg.solve(jacobian, weighted.T @ data.rewards)
    factor = torch.linalg.cholesky(gram)
    bounded, targets = parameters, _bounded_targets(data, parameters)
    change, sweeps = float("inf"), 0
    while sweeps < settings.sweeps and change > settings.tolerance:
        bounded = torch.cholesky_solve((weighted.T @ targets)[:, None], factor)[:, 0]
        updated = _bounded_targets(data, bounded)
        change = float(((updated - targets).abs() * counts).sum() / counts.sum())
        targets = updated
        sweeps += 1
    return FqeSolution(parameters, jacobian, bounded, sweeps, change)


def episode_pulls(data: FqeData, solution: FqeSolution, n_episodes: int) -> Tensor:
    """Return (p, n_episodes) influence of each episode on the parameters: their derivative in its count.

    Counts c give the parameters of a refit to first order, theta + pulls @ (c - 1): one Newton step of the equations
    from the fitted solution, instead of a new fit.
    """
    errors = data.rewards + data.next_features @ solution.parameters - data.features @ solution.parameters
    scores = data.features.new_zeros(n_episodes, data.features.shape[1])
    scores.index_add_(0, data.episode, data.features * errors[:, None])
    return torch.linalg.solve(solution.jacobian, scores.T)


def _bounded_targets(data: FqeData, parameters: Tensor) -> Tensor:
    return (data.rewards + data.next_features @ parameters).clamp(-1, 1)
