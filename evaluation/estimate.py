"""The sound evaluation of one policy: estimates of several families, weights, and the difference to clinicians."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimators import importance
from sepsis_cql.evaluation.estimators.another_death import (
    bound_with_another_death,
    weigh_little_seen,
)
from sepsis_cql.evaluation.estimators.episodes import select_rows
from sepsis_cql.evaluation.estimators.fqe import FqeResult, cross_fit, fit_on_training
from sepsis_cql.evaluation.estimators.fqe_basis import Decisions
from sepsis_cql.evaluation.estimators.importance import SumEstimator
from sepsis_cql.evaluation.estimators.intervals import (
    compute_difference_interval,
    compute_interval,
    compute_normal_interval,
    deviation,
)
from sepsis_cql.evaluation.estimators.sensitivity import break_even, break_even_by_decision
from sepsis_cql.evaluation.estimators.table import BOOTSTRAP, ESTIMATORS, Given, Statistic
from sepsis_cql.evaluation.estimators.weights import Weights, summarize_weights
from sepsis_cql.evaluation.policies.base import Policy, checked_probabilities
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.record import Difference, Estimate
from sepsis_cql.evaluation.settings import EvaluationSettings, GateSettings

SURE = 1.96  # standard errors


@dataclass(frozen=True)
class PolicyEstimate:
    """What was found about one policy.

    Attributes:
        evaluated: which policy, with its softening.
        probabilities: (n, 25) of the policy at the scored states.
        weights: (n_episodes,) untruncated episode weights.
        estimates: by name of the estimator.
        statistics: the same as statistics that can be resampled or refitted.
        differences: to the clinicians, by the recommended and by the independent estimator; empty for the clinicians
            themselves.
        difference: the recommended one of them; None for the clinicians themselves.
        distance: of the independent value from the recommended one, in standard deviations of their difference over
            the same resamples; None where there are none.
        another_death: lower end of the independent difference, had another patient died, see
            `estimators.another_death`.
        worst_missing: recommended value, with the missing mass of the weights valued at the worst return; the lowest of
            the gated families where the policy gives doses that nobody got.
        clinicians_value: mean return of the scored episodes.
        local_excess: share of decisions without local support, beyond the share of the clinicians' own.
        break_even_gamma: of the odds over a stay, see `estimators.sensitivity`.
        break_even_gamma_by_decision: of the odds at every decision.
        certain_gamma: the same where the lower end of the 95% interval falls to the clinicians' value.
        fqe: the cross-fitted evaluator; None for the clinicians themselves.
    """

    evaluated: EvaluatedPolicy
    probabilities: np.ndarray
    weights: np.ndarray
    estimates: dict[str, Estimate]
    statistics: dict[str, Statistic]
    difference: Difference | None
    fqe: FqeResult | None
    differences: dict[str, Difference] = field(default_factory=dict)
    distance: float | None = None
    another_death: float | None = None
    worst_missing: float | None = None
    clinicians_value: float | None = None
    local_excess: float | None = None
    break_even_gamma: float | None = None
    break_even_gamma_by_decision: float | None = None
    certain_gamma: float | None = None

    @property
    def summary(self) -> Weights:
        """Diagnostics of the weights."""
        return summarize_weights(self.weights)


def estimate_policy(
    evaluated: EvaluatedPolicy, data: EvaluationData, settings: EvaluationSettings, n_resamples: int
) -> PolicyEstimate:
    """Estimate the value of one policy by every estimator of the table.

    Args:
        evaluated: the policy.
        data: the scored episodes, and what evaluators are fitted on.
        settings: of the estimators.
        n_resamples: bootstrap resamples.
    """
    probabilities, rho = weigh_policy(evaluated.policy, data)
    fits = fit_evaluators(evaluated, data, probabilities, settings)
    cap = float(np.quantile(rho[:, -1], settings.truncation_quantile)) or None
    given = Given(data.episodes, data.scored.actions, probabilities, rho, cap, fits)
    counts = data.counts(n_resamples, settings.seed)
    estimates, statistics = _apply_table(given, counts, settings, is_of_clinicians=False)
    rules, weights, returns = settings.gates, rho[:, -1], data.episodes.returns
    differences = {
        name: _difference(name, statistics[name], data, counts, settings)
        for name in (rules.recommended, rules.independent)
    }
    refits = data.counts(settings.fqe.refits, settings.seed)
    chances = data.episodes.pad(select_rows(data.behavior, data.scored.actions), fill=1.0)
    odds = returns, weights, chances, given.q[:, 0]
    unseen = max(
        unseen_share(probabilities, data, rules.never),
        lacking_share(probabilities, data, rules.support_threshold),
    )
    return PolicyEstimate(
        evaluated=evaluated,
        probabilities=probabilities,
        weights=weights,
        estimates=estimates,
        statistics=statistics,
        difference=differences[rules.recommended],
        fqe=fits["fqe_cross_fitted"],
        differences=differences,
        distance=_distance(statistics[rules.recommended], statistics[rules.independent], refits),
        another_death=_finite(
            bound_with_another_death(
                _resample_difference(statistics[rules.independent], data, counts),
                weights,
                _value(statistics[rules.independent]),
                settings.bound,
                settings.seed,
                little_seen=weigh_little_seen(probabilities, data.behavior, data.scored.actions),
            )
        ),
        worst_missing=value_missing_at_worst(
            # an evaluator extrapolates to doses that nobody got, and WDR with it
            float(np.nanmin([_value(statistics[name]) for name in (rules.recommended, *rules.families)]))
            if unseen > 0
            else _value(statistics[rules.recommended]),
            weights,
            settings.bound,
            rules.missing_standard_errors,
            unseen=unseen,
        ),
        clinicians_value=float(returns.mean()),
        local_excess=local_excess(probabilities, data, rules),
        break_even_gamma=break_even(returns, weights, float(returns.mean())),
        break_even_gamma_by_decision=break_even_by_decision(*odds),
        certain_gamma=break_even_by_decision(*odds, standard_errors=SURE),
    )


def value_missing_at_worst(
    value: float, weights: np.ndarray, bound: float, standard_errors: float, *, unseen: float = 0.0
) -> float:
    """Return a value, with the mass that weights lack of a mean of 1 beyond chance valued at the worst return.

    Args:
        value: of the policy, as the mass that is there says.
        weights: (n_episodes,).
        bound: largest absolute return.
        standard_errors: of the mean weight that are held for chance.
        unseen: share of the policy's episodes that no weight can show, which no chance excuses.
    """
    error = weights.std(ddof=1) / np.sqrt(len(weights))
    known = min(1.0 - unseen, float(weights.mean() + standard_errors * error))
    return known * value - (1 - known) * bound


def unseen_share(probabilities: np.ndarray, data: EvaluationData, never: float) -> float:
    """Return the share of a policy's episodes with a dose that clinicians never give where it is given.

    How often the policy gives such doses is known exactly, at the states the clinicians reach; the mean weight tells it
    only up to chance.

    Args:
        probabilities: (n, 25) of the policy at the scored states.
        data: the scored episodes.
        never: probability of the clinicians below which they never give a dose.
    """
    each = (probabilities * (data.behavior < never)).sum(axis=1)
    return float(1 - (1 - data.episodes.pad(each)).prod(axis=1).mean())


def lacking_share(probabilities: np.ndarray, data: EvaluationData, rare: float) -> float:
    """Return how many rare doses an episode of the policy has that the weights lack, where that is more than chance.

    Of doses that somebody says clinicians hardly ever give, the policy's share is known and what is seen, weighted,
    must add up to it. The mean weight tells the same of all doses together, in whose noise a few fatal ones are lost.

    Args:
        probabilities: (n, 25) of the policy at the scored states.
        data: the scored episodes.
        rare: probability of the clinicians below which a dose is rare.
    """
    is_rare = data.behavior < rare
    wanted = (probabilities * is_rare).sum(axis=1)
    given, chance, counts = (
        select_rows(part, data.scored.actions) for part in (probabilities, data.behavior, is_rare)
    )
    lacking = data.episodes.pad(wanted - counts * given / chance).sum(axis=1)
    share, error = float(lacking.mean()), float(lacking.std(ddof=1) / np.sqrt(len(lacking)))
    return min(1.0, share) if share > SURE * error else 0.0


def local_excess(probabilities: np.ndarray, data: EvaluationData, rules: GateSettings) -> float:
    """Return the share of a policy's decisions on doses without local support, less the clinicians' own share.

    Rare doses are without it by chance alone, for clinicians as for a policy; only what a policy adds counts.

    Args:
        probabilities: (n, 25) of the policy at the scored states.
        data: scored and training decisions.
        rules: how many neighbors are asked, and how many of them are support.
    """
    unsupported = data.local_actions(rules.local_neighbors) <= rules.local_support_count
    own = select_rows(unsupported, data.scored.actions).mean()
    return float((probabilities * unsupported).sum(axis=1).mean() - own)


def _distance(main: Statistic, other: Statistic, counts: np.ndarray) -> float | None:
    """How far two estimates of one policy lie apart, in standard deviations over (R, n_episodes) shared resamples."""
    if isinstance(main, float) or isinstance(other, float):
        return None
    a, b = (one.resampled() if isinstance(one, FqeResult) else one.resampled(counts) for one in (main, other))
    spread = deviation(a - b)
    return _finite(abs(main.value - other.value) / spread) if spread > 0 else None


def weigh_policy(policy: Policy, data: EvaluationData) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 25) probabilities at the scored states, and (n_episodes, horizon) cumulative importance ratios."""
    probabilities = checked_probabilities(policy, data.scored.states)
    taken = select_rows(probabilities, data.scored.actions)
    ratios = data.episodes.pad(taken / select_rows(data.behavior, data.scored.actions), fill=1.0)
    return probabilities, np.cumprod(ratios, axis=1)


def estimate_clinicians(
    evaluated: EvaluatedPolicy, data: EvaluationData, settings: EvaluationSettings, n_resamples: int
) -> PolicyEstimate:
    """Estimate what clinicians achieved on the same episodes: every weight is 1."""
    rho = np.ones(data.episodes.rewards.shape)
    given = Given(data.episodes, data.scored.actions, data.behavior, rho, None, {})
    counts = data.counts(n_resamples, settings.seed)
    estimates, statistics = _apply_table(given, counts, settings, is_of_clinicians=True)
    return PolicyEstimate(evaluated, data.behavior, rho[:, -1], estimates, statistics, None, None)


def fit_evaluators(
    evaluated: EvaluatedPolicy, data: EvaluationData, probabilities: np.ndarray, settings: EvaluationSettings
) -> dict[str, FqeResult]:
    """Fit Q evaluation of a policy on training transitions and on folds of the scored ones.

    Args:
        evaluated: the policy.
        data: both kinds of transitions.
        probabilities: (n, 25) of the policy at the scored states.
        settings: of the evaluators.
    """
    trained = checked_probabilities(evaluated.policy, data.train.states)
    training = Decisions(data.train_inputs, trained, data.train_behavior, data.device)
    scored = Decisions(data.scored_inputs, probabilities, data.behavior, data.device)
    counts = data.counts(settings.fqe.refits, settings.seed)
    fits: list[Callable[[], FqeResult]] = [
        lambda: fit_on_training(data.train, training, data.scored, scored, counts, settings),
        lambda: cross_fit(data.scored, scored, counts, settings),
    ]
    on_training, cross_fitted = data.of_each(lambda fit: fit(), fits)
    return {"fqe": on_training, "fqe_cross_fitted": cross_fitted}


def _apply_table(
    given: Given, counts: np.ndarray, settings: EvaluationSettings, *, is_of_clinicians: bool
) -> tuple[dict[str, Estimate], dict[str, Statistic]]:
    """Estimates and statistics by every row that says something of a policy, or of the clinicians."""
    estimates, statistics = {}, {}
    for name, row in ESTIMATORS.items():
        if row.is_of_clinicians == is_of_clinicians:
            statistics[name] = statistic = row.make(given)
            value, lower, upper = _summarize(statistic, counts, settings)
            estimates[name] = Estimate(
                value=_finite(value),
                lower=_finite(lower),
                upper=_finite(upper),
                method=f"{settings.interval} {BOOTSTRAP}" if row.method == BOOTSTRAP else row.method,
                truncated_at=given.cap if row.is_truncated else None,
            )
    return estimates, statistics


def _summarize(
    statistic: Statistic, counts: np.ndarray, settings: EvaluationSettings
) -> tuple[float, float, float]:
    """Value, lower and upper end of the 95% interval; NaN where there is none."""
    if isinstance(statistic, float):
        return statistic, np.nan, np.nan
    if isinstance(statistic, FqeResult):
        return statistic.value, *statistic.interval()
    return statistic.value, *compute_interval(statistic, counts, method=settings.interval)


def _difference(
    name: str, statistic: Statistic, data: EvaluationData, counts: np.ndarray, settings: EvaluationSettings
) -> Difference:
    """Value of the policy minus mean return of the clinicians, on the same resampled episodes."""
    returns = data.episodes.returns
    lower = upper = np.nan
    value = _value(statistic) - float(returns.mean())
    if isinstance(statistic, FqeResult):  # refit by refit
        lower, upper = compute_normal_interval(value, _resample_difference(statistic, data, counts))
    elif isinstance(statistic, SumEstimator):
        clinicians = importance.mean_estimator(returns)
        lower, upper = compute_difference_interval(statistic, clinicians, counts, method=settings.interval)
    return Difference(estimator=name, value=_finite(value), lower=_finite(lower), upper=_finite(upper))


def _resample_difference(statistic: Statistic, data: EvaluationData, counts: np.ndarray) -> np.ndarray:
    """(R,) values of the policy less the clinicians' mean return, on the same resamples."""
    if isinstance(statistic, float):
        return np.array([])
    returns = data.episodes.returns
    if isinstance(statistic, FqeResult):
        counts = statistic.refit_counts
        return statistic.resampled() - counts @ returns / counts.sum(axis=1)
    return statistic.resampled(counts) - importance.mean_estimator(returns).resampled(counts)


def _value(statistic: Statistic) -> float:
    return statistic if isinstance(statistic, float) else statistic.value


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
