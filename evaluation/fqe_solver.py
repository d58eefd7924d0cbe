"""Fitted Q evaluation in linear features: its fixed point in one solution, and with bounded targets from there.

Q(s, a) = phi(s) . w + psi(s) . w_a: a part shared by all actions in rich features phi, and a deviation for each action
in a few features psi, fitted together by ridge regression, so a rare action falls back on the shared part. Repeating
y = r + gamma * sum_a' pi(a'|s') Q(s', a') and regressing Q on y ends where (F'F + ridge - F'N) theta = F'r, with F the
features of (s, a) and N the expected features of the next step; that system is solved directly (LSTD-Q, Lagoudakis &
Parr 2003). With targets clipped to the attainable range the sweeps themselves are run, from that solution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

N_ACTIONS = 25


@dataclass(frozen=True)
class FqeData:
    """Training transitions as the evaluator needs them.

    Attributes:
        features: (n, p) float32 features of each state and its action.
        next_features: (n, p) gamma times their expectation in the next state under the evaluated policy; 0 where
            the episode ends.
        rewards: (n,) in units of the attainable bound.
    """

    features: Tensor
    next_features: Tensor
    rewards: Tensor


@dataclass(frozen=True)
class FqeSolution:
    """A fitted evaluator.

    Attributes:
        parameters: (p,) float32; Q = features . parameters.
        sweeps: bounded sweeps that were made; 0 for the direct solution.
        change: mean absolute change of the targets in the last sweep, in units of the bound.
    """

    parameters: Tensor
    sweeps: int
    change: float


def pair_features(rich: Tensor, few: Tensor, weights: Tensor) -> Tensor:
    """(n, k + 25 m) features of states (n, k) and (n, m) under (n, 25) action weights."""
    each = weights[:, :, None] * few[:, None, :]
    return torch.cat([rich * weights.sum(dim=1, keepdim=True), each.flatten(1)], dim=1)


def action_weights(actions: Tensor) -> Tensor:
    """(n, 25) float32 with 1 at the given action."""
    return one_hot(actions, N_ACTIONS).float()


def solve(
    data: FqeData, counts: Tensor, *, bounded: bool, ridge: float, max_sweeps: int, tolerance: float
) -> FqeSolution:
    """Fit the evaluator.

    Args:
        data: the transitions.
        counts: (n,) how often each transition is in the data set.
        bounded: clip targets to [-1, 1], the attainable range.
        ridge: penalty, in transitions.
        max_sweeps: bounded sweeps after which to stop in any case.
        tolerance: stop when the mean target changes by less.
    """
    weighted = data.features * counts[:, None]
    penalty = ridge * torch.eye(data.features.shape[1], dtype=torch.float64)
    gram = (weighted.T @ data.features).double() + penalty
    step = (weighted.T @ data.next_features).double()
    moment = (weighted.T @ data.rewards).double()
    parameters = torch.linalg.solve(gram - step, moment).float()
    if not bounded:
        return FqeSolution(parameters, 0, 0.0)
    factor = torch.linalg.cholesky(gram)
    targets, change, sweeps = (data.rewards + data.next_features @ parameters).clamp(-1, 1), float("inf"), 0
    while sweeps < max_sweeps and change > tolerance:
        moment = (weighted.T @ targets).double()
        parameters = torch.cholesky_solve(moment[:, None], factor)[:, 0].float()
        updated = (data.rewards + data.next_features @ parameters).clamp(-1, 1)
        change = float(((updated - targets).abs() * counts).sum() / counts.sum())
        targets = updated
        sweeps += 1
    return FqeSolution(parameters, sweeps, change)
