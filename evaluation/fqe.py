"""Fitted Q evaluation with given features and closed-form heads, for one data set or many bootstrapped ones at once.

Q(s, a) = phi(s) . (w + w_a): a part shared by all actions and a deviation for each, both by ridge regression, so a
rare action falls back on the shared part. One sweep of fitted Q evaluation regresses
y = r + gamma * sum_a' pi(a'|s') Q(s', a') on the actions taken; all regressions share their Gram matrices between
sweeps and their large products between data sets, which is what makes a hundred refits affordable.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

N_ACTIONS = 25


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


@dataclass(frozen=True)
class FqeHeads:
    """Solutions for B data sets.

    Attributes:
        weights: (B, k, 25); Q = features @ weights.
        sweeps: how many sweeps were made.
        change: largest change of any head's mean target in the last sweep, in units of the bound.
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
    max_sweeps: int = 200,
    tolerance: float = 1e-4,
    start: Tensor | None = None,
) -> FqeHeads:
    """Iterate fitted Q evaluation to convergence for B weightings of the same transitions.

    Args:
        data: the transitions.
        counts: (B, n) how often each transition is in each data set.
        bounded: clip targets to [-1, 1], the attainable range.
        ridge: penalty, in transitions.
        max_sweeps: sweeps after which to stop in any case.
        tolerance: stop when no target's mean absolute change exceeds it.
        start: (k, 25) heads to start from.
    """
    order = torch.argsort(data.actions)
    bounds = np.searchsorted(data.actions[order].numpy(), np.arange(N_ACTIONS + 1))
    groups = [order[bounds[a] : bounds[a + 1]] for a in range(N_ACTIONS)]
    k = data.features.shape[1]
    n_sets = len(counts)
    grams = torch.zeros(n_sets, N_ACTIONS, k, k)
    for a, rows in enumerate(groups):
        h = data.features[rows]
        for b in range(n_sets):
            grams[b, a] = h.T @ (h * counts[b, rows, None])
    penalty = ridge * torch.eye(k, dtype=torch.float64)
    shared = torch.linalg.inv(grams.sum(1).double() + penalty).float()
    each = torch.linalg.inv(grams.double() + penalty).float()
    live = (data.continues > 0).nonzero()[:, 0]
    next_live, policy_live = data.next_features[live], data.next_policy[live]
    weights = torch.zeros(n_sets, k, N_ACTIONS) if start is None else start.expand(n_sets, -1, -1).clone()
    targets = data.rewards.repeat(n_sets, 1)
    change = float("inf")
    sweep = 0
    for sweep in range(1, max_sweeps + 1):
        values = (next_live @ weights.permute(1, 0, 2).reshape(k, -1)).reshape(len(live), n_sets, N_ACTIONS)
        values = torch.einsum("nba,na->bn", values, policy_live) * data.continues[live]
        updated = data.rewards.repeat(n_sets, 1)
        updated[:, live] += values
        if bounded:
            updated = updated.clamp(-1, 1)
        change = float((updated - targets).abs().mean(1).max()) if sweep > 1 else float("inf")
        targets = updated
        weighted = targets * counts
        moments = torch.stack([data.features[rows].T @ weighted[:, rows].T for rows in groups])  # (A, k, B)
        moments = moments.permute(2, 0, 1)  # (B, A, k)
        w = shared @ moments.sum(1)[..., None]  # (B,k,1)
        residual = moments[..., None] - grams @ w[:, None]
        w_a = (each @ residual)[..., 0]
        weights = (w[:, None, :, 0] + w_a).transpose(1, 2)
        if change < tolerance:
            break
    return FqeHeads(weights, sweep, change)
