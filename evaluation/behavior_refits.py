"""Intervals that also hold what the estimated clinicians leave uncertain.

The behavior policy is fitted on other patients than those scored. What refits on resampled patients change of an
estimate is therefore independent of the bootstrap of the scored episodes, and the two variances add. A version near to
the clinicians is made anew beside each refit; a policy that does not rest on them stays as it is.
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np
from scipy.stats import norm

from sepsis_cql.evaluation.covariates import FittedOn
from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.estimate import PolicyEstimate, estimate_policy
from sepsis_cql.evaluation.estimators.fqe import FqeResult
from sepsis_cql.evaluation.estimators.importance import SumEstimator
from sepsis_cql.evaluation.estimators.intervals import LEVEL, deviation
from sepsis_cql.evaluation.policies.behavior import BehaviorPolicy, fit_behavior
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy
from sepsis_cql.evaluation.record import Difference, Estimate
from sepsis_cql.evaluation.settings import BehaviorSettings, EvaluationSettings

Interval = TypeVar("Interval", Difference, Estimate)
FEWEST = 2  # resamples and refits of an estimate of which only the value counts


def widen_by_refits(
    found: PolicyEstimate, data: EvaluationData, settings: EvaluationSettings, refits: int
) -> PolicyEstimate:
    """Widen every interval by the variance over refits of the behavior policy on resampled training patients.

    Estimates keep their values; the distance of the two families shrinks, as the spread of their difference grows.

    Args:
        found: estimates of one policy.
        data: they were made on.
        settings: of the evaluation.
        refits: of the behavior policy, at least 2.

    Returns:
        The same estimates where no behavior policy was fitted for the weights, as those of known clinicians.
    """
    on = data.fitted_on
    if on is None or data.model is not on.model:
        return found
    fast = settings.model_copy(update={"fqe": settings.fqe.model_copy(update={"refits": FEWEST})})
    rows = []
    for number in range(refits):
        model = refit(on, settings.behavior, settings.seed + number)
        changed = data.with_behavior(model)
        again = estimate_policy(_follow(found.evaluated, changed), changed, fast, FEWEST)
        rows.append({name: _value(one) for name, one in again.statistics.items()})
    spreads = {name: deviation(np.array([row[name] for row in rows])) for name in rows[0]}
    rules = settings.gates
    apart = deviation(np.array([row[rules.recommended] - row[rules.independent] for row in rows]))
    differences = {name: widen(one, spreads[name]) for name, one in found.differences.items()}
    return replace(
        found,
        estimates={name: widen(one, spreads[name]) for name, one in found.estimates.items()},
        differences=differences,
        difference=differences[rules.recommended],
        distance=_farther(found, apart),
    )


def _follow(evaluated: EvaluatedPolicy, changed: EvaluationData) -> EvaluatedPolicy:
    """A version near to the clinicians, near to the refitted ones.

    Else its weights would hold how far both models lie apart, which those of the estimate do not.
    """
    if evaluated.remake is None:
        return evaluated
    return replace(evaluated, policy=evaluated.remake(changed.clinicians))


def refit(on: FittedOn, settings: BehaviorSettings, seed: int) -> BehaviorPolicy:
    """Fit a behavior policy of the same kind on as many patients, drawn with replacement, calibrated as before."""
    rng = np.random.default_rng(seed)
    parts = []
    for (states, actions), patients in ((on.fitted, on.fitted_patients), (on.held, on.held_patients)):
        rows = _draw(patients, rng)
        parts.append((on.normalizer(states[rows]), actions[rows]))
    largest = max(len(actions) for _, actions in parts)
    rules = settings.model_copy(update={"models": [on.model.name], "selection_rows": largest})
    return fit_behavior(*parts[0], *parts[1], rules, seed)


def widen(one: Interval, spread: float) -> Interval:
    """Return an estimate with the variance of `spread` added to that of each half of its interval."""
    if one.value is None or one.lower is None or one.upper is None or not np.isfinite(spread):
        return one
    more = float(norm.ppf((1 + LEVEL) / 2)) * spread
    lower, upper = (
        one.value + sign * float(np.hypot(end - one.value, more))
        for sign, end in ((-1, one.lower), (1, one.upper))
    )
    return one.model_copy(update={"lower": lower, "upper": upper})


def _farther(found: PolicyEstimate, apart: float) -> float | None:
    """The distance of the two families in standard deviations that hold the refits."""
    if not found.distance:
        return found.distance
    recommended, independent = (found.estimates[name].value for name in found.differences)
    assert recommended is not None and independent is not None
    gap = abs(recommended - independent)
    return gap / float(np.hypot(gap / found.distance, apart))


def _draw(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of as many patients as there are, drawn with replacement, for (n,) ids of sorted or unsorted rows."""
    names, of = np.unique(patients, return_inverse=True)
    order = np.argsort(of, kind="stable")
    pieces = np.split(order, np.cumsum(np.bincount(of))[:-1])
    return np.concatenate([pieces[one] for one in rng.integers(0, len(names), len(names))])


def _value(statistic: SumEstimator | FqeResult | float) -> float:
    return statistic if isinstance(statistic, float) else statistic.value
