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
from sepsis_cql.evaluation.fqe_solver import (
    N_ACTIONS,
    FqeData,
    FqeSolution,
    action_weights,
    pair_features,
    solve,
)
from sepsis_cql.replay.transitions import Transitions

TRANSITIONS_A_FEATURE = 20  # fewer give no more features than they can determine


class FqeSettings(Settings):
    """How the evaluator is fitted.

    Attributes:
        n_features: random rectified features beside the inputs themselves and a constant; fewer for little data.
        n_components: principal components of the inputs that each action's deviation sees, beside a constant.
        ridge: penalty, in transitions.
        max_sweeps: bounded sweeps after which to stop in any case.
        tolerance: stop when the mean target changes by less, in units of the bound.
        gamma: discount of one step.
        bound: largest attainable absolute return.
        level: coverage the interval aims at.
    """

    n_features: int = Field(default=192, ge=0)
    n_components: int = Field(default=9, ge=0)
    ridge: float = Field(default=1.0, gt=0)
    max_sweeps: int = Field(default=300, ge=1)
    tolerance: float = Field(default=1e-3, gt=0)
    gamma: float = Field(default=0.99, gt=0, le=1)
    bound: float = Field(default=15.0, gt=0)
    level: float = Field(default=0.95, gt=0, lt=1)


@dataclass(frozen=True)
class Basis:
    """Features of a state.

    Attributes:
        directions: (d, n_features) random projections, rectified after adding
        offsets: (n_features,) thresholds.
        components: (d, m) principal directions of the training inputs.
    """

    directions: Tensor
    offsets: Tensor
    components: Tensor

    def __call__(self, inputs: np.ndarray, weights: Tensor) -> Tensor:
        """(n, d) inputs and (n, 25) action weights to (n, p) features."""
        x = torch.tensor(inputs, dtype=torch.float32)
        constant = torch.ones(len(x), 1)
        rich = torch.cat([constant, x, torch.relu(x @ self.directions + self.offsets)], dim=1)
        return pair_features(rich, torch.cat([constant, x @ self.components], dim=1), weights)


@dataclass(frozen=True)
class FqeResult:
    """What fitted Q evaluation says of one policy.

    Attributes:
        value: mean of sum_a pi(a|s_0) Q(s_0, a) over the scored episodes, targets bounded.
        lower, upper: normal interval from `standard_error`.
        standard_error: standard deviation of `refit_values`.
        refit_values: (R,) values of the refitted evaluators.
        unbounded_value: the same without bounding targets.
        sweeps: bounded sweeps until convergence.
        change: mean change of the targets in the last sweep, in units of reward.
        basis, parameters, bound: the evaluator itself.
    """

    value: float
    lower: float
    upper: float
    standard_error: float
    refit_values: np.ndarray
    unbounded_value: float
    sweeps: int
    change: float
    basis: Basis
    parameters: Tensor
    bound: float

    def q_values(self, inputs: np.ndarray) -> np.ndarray:
        """(n, d) network inputs to (n, 25) float64 values inside the attainable range."""
        columns = []
        for action in range(N_ACTIONS):
            weights = action_weights(torch.full((len(inputs),), action))
            columns.append(self.basis(inputs, weights) @ self.parameters)
        return (torch.stack(columns, dim=1).clamp(-1, 1) * self.bound).double().numpy()


def new_basis(inputs: np.ndarray, settings: FqeSettings, seed: int) -> Basis:
    """Random directions from a seed, and the principal components of the training inputs."""
    d = inputs.shape[1]
    n_features = min(settings.n_features, len(inputs) // TRANSITIONS_A_FEATURE)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(d, n_features, generator=generator) / d**0.5
    offsets = torch.randn(n_features, generator=generator)
    centred = inputs.astype(np.float64) - inputs.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components = vectors[:, ::-1][:, : settings.n_components].copy()
    return Basis(directions, offsets, torch.tensor(components, dtype=torch.float32))


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
        n_refits: bootstrap data sets for the interval; fewer than 2 give an interval of NaN.
        seed: of the features and of both bootstraps.
    """
    basis = new_basis(inputs, settings, seed)
    continues = settings.gamma * ~transitions.terminals
    expected = torch.tensor(next_probabilities * continues[:, None], dtype=torch.float32)
    data = FqeData(
        features=basis(inputs, action_weights(torch.tensor(transitions.actions))),
        next_features=basis(next_inputs, expected),
        rewards=torch.tensor(transitions.rewards / settings.bound, dtype=torch.float32),
    )
    initial = basis(initial_inputs, torch.tensor(initial_probabilities, dtype=torch.float32))
    once = torch.ones(len(inputs))
    bounded = _solve(data, once, settings, bounded=True)
    unbounded = _solve(data, once, settings, bounded=False)
    refits = _refit(data, transitions, initial, settings, n_refits, seed)
    value = float((initial @ bounded.parameters).clamp(-1, 1).mean()) * settings.bound
    error = float(refits.std(ddof=1)) if n_refits > 1 else float("nan")
    margin = float(norm.ppf((1 + settings.level) / 2)) * error
    return FqeResult(
        value=value,
        lower=value - margin,
        upper=value + margin,
        standard_error=error,
        refit_values=refits,
        unbounded_value=float((initial @ unbounded.parameters).mean()) * settings.bound,
        sweeps=bounded.sweeps,
        change=bounded.change * settings.bound,
        basis=basis,
        parameters=bounded.parameters,
        bound=settings.bound,
    )


def _solve(data: FqeData, counts: Tensor, settings: FqeSettings, *, bounded: bool) -> FqeSolution:
    return solve(
        data,
        counts,
        bounded=bounded,
        ridge=settings.ridge,
        max_sweeps=settings.max_sweeps,
        tolerance=settings.tolerance,
    )


def _refit(
    data: FqeData,
    transitions: Transitions,
    initial: Tensor,
    settings: FqeSettings,
    n_refits: int,
    seed: int,
) -> np.ndarray:
    """(n_refits,) values, each from its own training episodes and its own scored episodes."""
    if n_refits == 0:
        return np.empty(0)
    stay = np.cumsum(np.r_[False, transitions.stay_id[1:] != transitions.stay_id[:-1]])
    training = np.concatenate(list(resample_counts(int(stay[-1]) + 1, n_refits, seed)))
    scored = np.concatenate(list(resample_counts(len(initial), n_refits, seed + 1)))
    values = np.empty(n_refits)
    for refit in range(n_refits):
        counts = torch.tensor(training[refit][stay], dtype=torch.float32)
        parameters = _solve(data, counts, settings, bounded=True).parameters
        each = (initial @ parameters).clamp(-1, 1).double().numpy()
        values[refit] = each @ scored[refit] / len(each) * settings.bound
    return values
