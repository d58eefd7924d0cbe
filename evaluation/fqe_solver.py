"""Fitted Q evaluation with given features and closed-form heads, for one data set or many bootstrapped ones at once.

Q(s, a) = phi(s) . (w + w_a): a part shared by all actions and a deviation for each, both by ridge regression, so a
rare action falls back on the shared part. One sweep of fitted Q evaluation regresses
y = r + gamma * sum_a' pi(a'|s') Q(s', a') on the actions taken; all regressions share their Gram matrices between
sweeps and their large products between data sets. A sweep shrinks the error by little more than gamma, so the fixed
point is approached by Anderson acceleration (Walker & Ni 2011), which needs tens of sweeps instead of hundreds.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

N_ACTIONS = 25
MEMORY = 8  # earlier sweeps that Anderson acceleration combines
RIDGE_OF_COMBINATION = 1e-10  # relative; keeps nearly equal sweeps from cancelling


@dataclass(frozen=True)
class FqeData:
    """Training transitions as the evaluator needs them.

    Attributes:
        features: (n, k) float32 of each state, with a constant column.
        next_features: (n, k) of each next state.
        actions: (n,) int64.
        rewards: (n,) in units of the attainable bound.
        continues: (n,) 0 on terminal steps, gamma elsewhere.
        next_policy: (n, 25) probabilities of the evaluated policy in the next state.
    """

    features: Tensor
    next_features: Tensor
    actions: Tensor
    rewards: Tensor
    continues: Tensor
    next_policy: Tensor

    def sorted_by_action(self) -> tuple["FqeData", Tensor, list[slice]]:
        """The same transitions grouped by action, their former places, and each action's rows."""
        order = torch.argsort(self.actions, stable=True)
        edges = np.searchsorted(self.actions[order].numpy(), np.arange(N_ACTIONS + 1))
        columns = (getattr(self, name)[order] for name in self.__dataclass_fields__)
        return FqeData(*columns), order, [slice(*edges[a : a + 2]) for a in range(N_ACTIONS)]


@dataclass(frozen=True)
class FqeHeads:
    """Solutions for B data sets.

    Attributes:
        weights: (B, k, 25) float64; Q = features @ weights.
        sweeps: how many sweeps were made.
        change: largest root mean square change of a data set's Q(s, a) in one further sweep, in units of the bound.
    """

    weights: Tensor
    sweeps: int
    change: float


def solve_heads(
    data: FqeData,
    counts: Tensor,
    *,
    bounded: bool,
    ridge: float,
    max_sweeps: int,
    tolerance: float,
    start: Tensor | None = None,
) -> FqeHeads:
    """Iterate fitted Q evaluation to convergence for B weightings of the same transitions.

    Args:
        data: the transitions.
        counts: (B, n) how often each transition is in each data set.
        bounded: clip targets to [-1, 1], the attainable range.
        ridge: penalty, in transitions.
        max_sweeps: sweeps after which to stop in any case.
        tolerance: stop when `FqeHeads.change` does not exceed it.
        start: (k, 25) heads to start from.
    """
    data, order, groups = data.sorted_by_action()
    sweep = _Sweep(data, counts[:, order], groups, bounded=bounded, ridge=ridge)
    k = data.features.shape[1]
    weights = (
        torch.zeros(len(counts), k, N_ACTIONS, dtype=torch.float64)
        if start is None
        else start.expand(len(counts), -1, -1)
    )
    points: list[Tensor] = []  # (B, k, 25) what sweeps made, and
    residuals: list[Tensor] = []  # how far that is from what they started with
    n_sweeps, change = 0, float("inf")
    while n_sweeps < max_sweeps:
        swept = sweep(weights)
        n_sweeps += 1
        residual = swept - weights
        change = sweep.change_of_q(residual)
        if change <= tolerance:
            return FqeHeads(swept, n_sweeps, change)
        points, residuals = [*points[-MEMORY:], swept], [*residuals[-MEMORY:], residual]
        weights = _combine(points, residuals)
    return FqeHeads(swept, n_sweeps, change)


class _Sweep:
    """One sweep of fitted Q evaluation: heads in, heads out."""

    def __init__(
        self, data: FqeData, counts: Tensor, groups: list[slice], *, bounded: bool, ridge: float
    ) -> None:
        self._data, self._counts, self._groups, self._bounded = data, counts, groups, bounded
        features = data.features
        self._grams = torch.stack(
            [
                torch.stack([features[g].T @ (features[g] * weights[g, None]) for g in groups])
                for weights in counts
            ]
        ).double()  # (B, 25, k, k)
        penalty = ridge * torch.eye(features.shape[1], dtype=torch.float64)
        self._shared = _inverse(self._grams.sum(1) + penalty)  # (B, k, k)
        self._each = _inverse(self._grams + penalty)  # (B, 25, k, k)
        self._live = (data.continues > 0).nonzero()[:, 0]
        self._next_features = data.next_features[self._live]
        self._next_policy = data.next_policy[self._live] * data.continues[self._live, None]

    def __call__(self, weights: Tensor) -> Tensor:
        """(B, k, 25) heads fitted to the targets that (B, k, 25) heads give."""
        weighted = self._targets(weights) * self._counts
        moments = torch.stack([self._data.features[g].T @ weighted[:, g].T for g in self._groups])
        moments = moments.permute(2, 0, 1).double()  # (B, 25, k)
        shared = self._shared @ moments.sum(1)[..., None]  # (B, k, 1)
        deviation = self._each @ (moments[..., None] - self._grams @ shared[:, None])  # (B, 25, k, 1)
        return (shared[:, None] + deviation)[..., 0].transpose(1, 2)

    def change_of_q(self, residual: Tensor) -> float:
        """Largest root mean square of features . residual over the transitions of a data set."""
        squares = torch.einsum("bka,bakj,bja->b", residual, self._grams, residual)
        return float((squares.clamp(min=0) / self._counts.sum(1)).sqrt().max())

    def _targets(self, weights: Tensor) -> Tensor:
        targets = self._data.rewards.repeat(len(weights), 1)
        for b, heads in enumerate(weights.float()):
            targets[b, self._live] += ((self._next_features @ heads) * self._next_policy).sum(1)
        return targets.clamp_(-1, 1) if self._bounded else targets


def _combine(points: list[Tensor], residuals: list[Tensor]) -> Tensor:
    """The combination of earlier sweeps whose residuals cancel best, for each data set on its own."""
    if len(points) == 1:
        return points[0]
    stack = torch.stack(residuals).flatten(2).transpose(0, 1)  # (B, m, k * 25)
    differences = stack[:, 1:] - stack[:, :-1]
    gram = differences @ differences.transpose(1, 2)
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-300)[:, None, None]
    gram = gram + RIDGE_OF_COMBINATION * scale * torch.eye(gram.shape[1], dtype=torch.float64)
    mixing = torch.linalg.solve(gram, differences @ stack[:, -1, :, None])[..., 0]  # (B, m - 1)
    steps = torch.stack(points)[1:] - torch.stack(points)[:-1]
    return points[-1] - torch.einsum("bm,mbka->bka", mixing, steps)


def _inverse(positive_definite: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(positive_definite))
