"""Fitted Q evaluation of a policy: value, refitted interval, and the Q-function doubly robust estimators need.

The evaluator is fitted on training transitions by squared error; the value is scored at the initial states of other
episodes. The interval refits it on bootstrapped training episodes and resamples the scored episodes with them:
resampling initial states alone covers nothing, because the error of the evaluator is what is uncertain.
"""

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from scipy.stats import norm
from torch import Tensor

from sepsis_cql.configs.loading import Settings
from sepsis_cql.evaluation.bootstrap import resample_counts
from sepsis_cql.evaluation.fqe_solver import FqeData, FqeHeads, solve_heads
from sepsis_cql.replay.transitions import Transitions

REFITS_AT_ONCE = 10  # bounds memory: each holds one Gram matrix an action


class FqeSettings(Settings):
    """How the evaluator is fitted.

    Attributes:
        n_features: random rectified features beside the inputs themselves and a constant.
        ridge: penalty, in transitions.
        max_sweeps: sweeps of fitted Q evaluation after which to stop in any case.
        tolerance: stop when the mean target changes by less, in units of the bound.
        gamma: discount of one step.
        bound: largest attainable absolute return.
        level: coverage the interval aims at.
    """

    n_features: int = Field(default=192, ge=0)
    ridge: float = Field(default=1.0, gt=0)
    max_sweeps: int = Field(default=300, ge=1)
    tolerance: float = Field(default=1e-3, gt=0)
    gamma: float = Field(default=0.99, gt=0, le=1)
    bound: float = Field(default=15.0, gt=0)
    level: float = Field(default=0.95, gt=0, lt=1)


@dataclass(frozen=True)
class FqeResult:
    """What fitted Q evaluation says of one policy.

    Attributes:
        value: mean of sum_a pi(a|s_0) Q(s_0, a) over the scored episodes, targets bounded.
        lower, upper: normal interval from `standard_error`.
        standard_error: standard deviation of `refit_values`.
        refit_values: (R,) values of the refitted evaluators.
        unbounded_value: the same without bounding targets.
        sweeps: sweeps until convergence.
        change: mean change of the targets in the last sweep, in units of reward.
    """

    value: float
    lower: float
    upper: float
    standard_error: float
    refit_values: np.ndarray
    unbounded_value: float
    sweeps: int
    change: float
    _heads: Tensor
    _basis: "Basis"
    _bound: float

    def q_values(self, inputs: np.ndarray) -> np.ndarray:
        """(n, d) network inputs to (n, 25) float64 values inside the attainable range."""
        q_values = self._basis(inputs) @ self._heads
        return (q_values.clamp(-1, 1) * self._bound).double().numpy()


@dataclass(frozen=True)
class Basis:
    """Features of a state: a constant, the inputs, and random rectified projections of them.

    Attributes:
        directions: (d, n_features) projections.
        offsets: (n_features,) thresholds.
    """

    directions: Tensor
    offsets: Tensor

    def __call__(self, inputs: np.ndarray) -> Tensor:
        """(n, d) inputs to (n, 1 + d + n_features) float32."""
        x = torch.as_tensor(inputs, dtype=torch.float32)
        return torch.cat([torch.ones(len(x), 1), x, torch.relu(x @ self.directions + self.offsets)], dim=1)


def new_basis(n_inputs: int, n_features: int, seed: int) -> Basis:
    """Directions of unit expected variance and thresholds of the same spread, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(n_inputs, n_features, generator=generator) / n_inputs**0.5
    return Basis(directions, torch.randn(n_features, generator=generator))


def fit_fqe(
    inputs: np.ndarray,
    next_inputs: np.ndarray,
    transitions: Transitions,
    next_probabilities: np.ndarray,
    initial_inputs: np.ndarray,
    initial_probabilities: np.ndarray,
    settings: FqeSettings,
    *,
    n_refits: int,
    seed: int,
) -> FqeResult:
    """Fit the evaluator on training transitions and value the policy at the scored episodes' first states.

    Args:
        inputs: (n, d) network inputs of the training states, without NaN.
        next_inputs: (n, d) of their next states.
        transitions: the training transitions, sorted by stay and step.
        next_probabilities: (n, 25) of the evaluated policy in the next states.
        initial_inputs: (m, d) first states of the scored episodes.
        initial_probabilities: (m, 25) of the evaluated policy there.
        settings: how to fit.
        n_refits: bootstrap data sets for the interval; 0 gives an interval of NaN.
        seed: of the features and of both bootstraps.
    """
    basis = new_basis(inputs.shape[1], settings.n_features, seed)
    data = FqeData(
        features=basis(inputs),
        next_features=basis(next_inputs),
        actions=torch.as_tensor(transitions.actions),
        rewards=torch.as_tensor(transitions.rewards / settings.bound, dtype=torch.float32),
        continues=torch.as_tensor(settings.gamma * ~transitions.terminals, dtype=torch.float32),
        next_policy=torch.as_tensor(next_probabilities, dtype=torch.float32),
    )
    initial = basis(initial_inputs)
    policy = torch.as_tensor(initial_probabilities, dtype=torch.float32)
    once = torch.ones(1, len(inputs))
    bounded = _solve(data, once, settings, bounded=True)
    unbounded = _solve(data, once, settings, bounded=False)
    refits = _refit(data, transitions, initial, policy, bounded, settings, n_refits, seed)
    value = float(_initial_values(initial, policy, bounded.weights).mean()) * settings.bound
    error = float(refits.std(ddof=1)) if n_refits > 1 else float("nan")
    margin = float(norm.ppf((1 + settings.level) / 2)) * error
    return FqeResult(
        value=value,
        lower=value - margin,
        upper=value + margin,
        standard_error=error,
        refit_values=refits,
        unbounded_value=float(_initial_values(initial, policy, unbounded.weights).mean()) * settings.bound,
        sweeps=bounded.sweeps,
        change=bounded.change * settings.bound,
        _heads=bounded.weights[0].float(),
        _basis=basis,
        _bound=settings.bound,
    )


def _solve(
    data: FqeData, counts: Tensor, settings: FqeSettings, *, bounded: bool, start: Tensor | None = None
) -> FqeHeads:
    return solve_heads(
        data,
        counts,
        bounded=bounded,
        ridge=settings.ridge,
        max_sweeps=settings.max_sweeps,
        tolerance=settings.tolerance,
        start=start,
    )


def _refit(
    data: FqeData,
    transitions: Transitions,
    initial: Tensor,
    policy: Tensor,
    point: FqeHeads,
    settings: FqeSettings,
    n_refits: int,
    seed: int,
) -> np.ndarray:
    """(n_refits,) values, each from its own training episodes and its own scored episodes."""
    if n_refits == 0:
        return np.empty(0)
    stay = np.cumsum(np.r_[False, transitions.stay_id[1:] != transitions.stay_id[:-1]])
    training = np.concatenate(list(resample_counts(int(stay[-1]) + 1, n_refits, seed)))
    scored = torch.as_tensor(
        np.concatenate(list(resample_counts(len(initial), n_refits, seed + 1))), dtype=torch.float32
    )
    values = []
    for first in range(0, n_refits, REFITS_AT_ONCE):
        part = slice(first, first + REFITS_AT_ONCE)
        counts = torch.as_tensor(training[part][:, stay], dtype=torch.float32)
        heads = _solve(data, counts, settings, bounded=True, start=point.weights[0])
        each = _initial_values(initial, policy, heads.weights)  # (B, m)
        values.append((each * scored[part]).mean(dim=1))
    return torch.cat(values).double().numpy() * settings.bound


def _initial_values(initial: Tensor, policy: Tensor, weights: Tensor) -> Tensor:
    """(B, m) values of the first states, inside the attainable range."""
    q_values = torch.einsum("mk,bka->bma", initial, weights.float()).clamp(-1, 1)
    return (q_values * policy).sum(dim=2)
