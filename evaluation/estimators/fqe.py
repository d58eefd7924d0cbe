"""Fitted Q evaluation of a policy: value, refitted interval, and the Q-function doubly robust estimators need.

It is made twice. Fitted on training transitions it is the textbook estimate, and optimistic: a policy learned from
these transitions has chosen what happened to go well in them. Cross-fitted, each fold of the scored episodes is valued
by an evaluator fitted on the other folds, which the policy has never seen.

The interval refits the evaluator on bootstrapped episodes and resamples the scored ones with them: resampling initial
states alone covers nothing, because the error of the evaluator is what is uncertain.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.evaluation.estimators.episodes import patients_of
from sepsis_cql.evaluation.estimators.fqe_basis import Basis, Decisions, new_basis
from sepsis_cql.evaluation.estimators.intervals import compute_normal_interval, resample_patients
from sepsis_cql.evaluation.estimators.lstd import FqeData, FqeSolution, episode_pulls, multiply, solve
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.replay.transitions import Transitions


@dataclass(frozen=True)
class FqeResult:
    """What fitted Q evaluation says of one policy.

    Attributes:
        initial_values: (m,) sum_a pi(a|s_0) Q(s_0, a) of each scored episode.
        refit_values: (R, m) the same by each refitted evaluator.
        refit_counts: (R, m) how often each scored episode is in the resample of that refit.
        bounded_value: mean value with targets bounded to the attainable range.
        sweeps: bounded sweeps until convergence, the largest where there are several fits.
        change: mean change of the targets in the last sweep, in units of reward; likewise.
        q_values: (n, 25) at the scored decisions, inside the attainable range.
    """

    initial_values: np.ndarray
    refit_values: np.ndarray
    refit_counts: np.ndarray
    bounded_value: float
    sweeps: int
    change: float
    q_values: np.ndarray

    @property
    def value(self) -> float:
        """Mean value over the scored episodes."""
        return float(self.initial_values.mean())

    def resampled(self, inside: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return (R,) mean values of the episodes `inside` in each resample; NaN where it holds none of them."""
        counts = self.refit_counts[:, inside]
        with np.errstate(invalid="ignore"):
            return (self.refit_values[:, inside] * counts).sum(axis=1) / counts.sum(axis=1)

    def interval(self, inside: np.ndarray | slice = slice(None)) -> tuple[float, float]:
        """Return the 95% normal interval of the mean value of the episodes `inside`."""
        return compute_normal_interval(float(self.initial_values[inside].mean()), self.resampled(inside))


def fit_on_training(
    train: Transitions,
    training: Decisions,
    scored: Transitions,
    decisions: Decisions,
    counts: np.ndarray,
    settings: EvaluationSettings,
) -> FqeResult:
    """Fit an evaluator on training transitions and value the policy at the first states of the scored episodes.

    Args:
        train: training transitions.
        training: the same, as decisions.
        scored: scored transitions.
        decisions: the same, as decisions.
        counts: (R, m) how often each scored episode is in each resample.
        settings: of the evaluation.
    """
    basis = new_basis(training.inputs, settings.fqe, settings.seed)
    data, _ = make_fqe_data(basis, train, training, settings)
    fit = solve(data, settings.fqe)
    drawn = resample_patients(train, len(counts), settings.seed + 1)
    refits = _refit(data, fit, data.features.new_tensor(drawn.T - 1))
    initial = basis.expected(decisions.rows(scored.episode_starts))
    return FqeResult(
        initial_values=_in_reward(initial @ fit.parameters, settings),
        refit_values=_in_reward((initial @ refits).T, settings),
        refit_counts=counts,
        bounded_value=float(_bounded(initial @ fit.bounded_parameters, settings).mean()),
        sweeps=fit.sweeps,
        change=fit.change * settings.bound,
        q_values=_bounded(basis.q_values(decisions, fit.parameters), settings),
    )


def cross_fit(
    scored: Transitions, decisions: Decisions, counts: np.ndarray, settings: EvaluationSettings
) -> FqeResult:
    """Value the policy at the first states of each fold of the scored episodes by an evaluator fitted on the others.

    Args:
        scored: scored transitions.
        decisions: the same, as decisions.
        counts: (R, m) how often each scored episode is in each resample, as fitted and as scored.
        settings: of the evaluation.

    Raises:
        EvaluationError: there is only one patient.
    """
    if scored.n_patients < 2:
        raise EvaluationError(
            f"found {scored.n_patients} scored patient, expected at least 2: each is valued by an evaluator fitted on "
            "others. Use a replay with more patients."
        )
    basis = new_basis(decisions.inputs, settings.fqe, settings.seed)
    data, initial = make_fqe_data(basis, scored, decisions, settings)
    changes = data.features.new_tensor(counts.T - 1)
    values = np.empty(scored.n_episodes)
    refit_values = np.empty((len(counts), scored.n_episodes), dtype=np.float32)
    q_values = np.empty((len(scored), decisions.policy.shape[1]))
    bounded_values = np.empty(scored.n_episodes)
    folds = [(inside, inside[data.episode.cpu().numpy()]) for inside in _folds(patients_of(scored), settings)]
    products = torch.stack([multiply(data.rows(within)) for _, within in folds])
    whole = products.sum(dim=0)
    fits = []
    for (inside, within), own in zip(folds, products, strict=True):
        others = data.rows(~within)
        fit = solve(others, settings.fqe, products=whole - own)
        fits.append(fit)
        values[inside] = _in_reward(initial[inside] @ fit.parameters, settings)
        refit_values[:, inside] = _in_reward((initial[inside] @ _refit(others, fit, changes)).T, settings)
        bounded_values[inside] = _bounded(initial[inside] @ fit.bounded_parameters, settings)
        q_values[within] = _bounded(basis.q_values(decisions.rows(within), fit.parameters), settings)
    return FqeResult(
        initial_values=values,
        refit_values=refit_values,
        refit_counts=counts,
        bounded_value=float(bounded_values.mean()),
        sweeps=max(fit.sweeps for fit in fits),
        change=max(fit.change for fit in fits) * settings.bound,
        q_values=q_values,
    )


def make_fqe_data(
    basis: Basis, transitions: Transitions, decisions: Decisions, settings: EvaluationSettings
) -> tuple[FqeData, Tensor]:
    """Make features of transitions sorted by stay and step, each stay up to its end, and the (m, p) of first states."""
    taken, expected = basis.taken_and_expected(decisions, transitions.actions)
    initial = expected[transitions.episode_starts]
    following = torch.empty_like(expected)
    torch.mul(expected[1:], settings.gamma, out=following[:-1])
    following[torch.tensor(transitions.terminals)] = 0
    stay = np.cumsum(np.r_[False, transitions.stay_id[1:] != transitions.stay_id[:-1]])
    data = FqeData(
        features=taken,
        next_features=following,
        rewards=decisions.tensor(transitions.rewards / settings.bound),
        episode=torch.tensor(stay, device=decisions.device),
    )
    return data, initial


def _refit(data: FqeData, solution: FqeSolution, changes: Tensor) -> Tensor:
    """(p, R) parameters refitted to first order on resamples that change the counts of the episodes by (m, R)."""
    pulls = episode_pulls(data, solution, len(changes))
    return solution.parameters[:, None] + pulls @ changes


def _folds(patient: np.ndarray, settings: EvaluationSettings) -> Iterator[np.ndarray]:
    """Yield a mask of the episodes of each fold of the patients; one patient a fold where there are fewer than folds.

    Args:
        patient: (n_episodes,) number of each episode's patient.
        settings: seed and number of folds.
    """
    n_patients = int(patient.max()) + 1
    order = np.random.default_rng(settings.seed).permutation(n_patients)
    fold = (order % min(settings.fqe.folds, n_patients))[patient]
    for number in range(fold.max() + 1):
        yield fold == number


def _in_reward(values: Tensor, settings: EvaluationSettings) -> np.ndarray:
    return values.double().cpu().numpy() * settings.bound


def _bounded(values: Tensor, settings: EvaluationSettings) -> np.ndarray:
    """Values in units of reward, inside the attainable range."""
    return _in_reward(values.clamp(-1, 1), settings)
