"""From numbers to one of three sentences, by rules that `configs/evaluation.yaml` states.

A policy is identified only if every gate holds. An identified policy is better than the clinicians if the interval
of the difference lies above 0 and no identified baseline does as well; otherwise it is not better.
"""

from collections.abc import Iterable

import numpy as np

from sepsis_cql.evaluation.estimate import PolicyEstimate
from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.estimators.weights import summarize_weights
from sepsis_cql.evaluation.record import Estimate, Gate, Label, Verdict
from sepsis_cql.evaluation.settings import EvaluationSettings

UNIDENTIFIED: Label = "cannot be identified"


def check_gates(
    policy_estimate: PolicyEstimate, behavior: np.ndarray, settings: EvaluationSettings
) -> list[Gate]:
    """Check every rule that must hold before an estimate may be believed.

    Args:
        policy_estimate: of the policy.
        behavior: (n, 25) the clinicians' probabilities at the scored states.
        settings: the thresholds.
    """
    rules = settings.gates
    main = policy_estimate.estimates[rules.recommended]
    fitted = policy_estimate.fqe
    bounding = 0.0 if fitted is None else abs(fitted.value - fitted.bounded_value)
    largest = largest_magnitude(policy_estimate)
    return [
        *check_overlap(policy_estimate.probabilities, policy_estimate.weights, behavior, settings),
        Gate(
            name="bounds: largest value or interval end",
            value=largest,
            threshold=f"at most {settings.bound:g}",
            passed=largest is not None and largest <= settings.bound,
        ),
        Gate(
            name="the evaluator is stable: change of its value when targets are bounded",
            value=bounding,
            threshold=f"at most {rules.fqe_bounding:g}",
            passed=bounding <= rules.fqe_bounding,
        ),
        *(_agreement(name, policy_estimate.estimates[name], main) for name in rules.families),
    ]


def check_overlap(
    probabilities: np.ndarray, weights: np.ndarray, behavior: np.ndarray, settings: EvaluationSettings
) -> list[Gate]:
    """Check the rules that need no estimate: a policy must mostly do what clinicians do.

    Args:
        probabilities: (n, 25) of the policy at the scored states.
        weights: (n_episodes,) untruncated episode weights.
        behavior: (n, 25) the clinicians' probabilities at the scored states.
        settings: the thresholds.
    """
    rules, summary = settings.gates, summarize_weights(weights)
    unsupported = unsupported_share(probabilities, behavior, rules.support_threshold)
    low, high = rules.mean_weight
    mean_weight = float(weights.mean())
    return [
        Gate(
            name="support: share of decisions where clinicians hardly ever act so",
            value=unsupported,
            threshold=f"at most {rules.unsupported_share:g}",
            passed=unsupported <= rules.unsupported_share,
        ),
        Gate(
            name="effective sample size",
            value=summary.ess,
            threshold=f"at least {rules.minimum_ess:g} episodes",
            passed=summary.ess >= rules.minimum_ess,
        ),
        Gate(
            name="mean weight, 1 in expectation",
            value=mean_weight,
            threshold=f"{low:g} to {high:g}",
            passed=low <= mean_weight <= high,
        ),
    ]


def judge(
    policy_estimate: PolicyEstimate,
    gates: list[Gate],
    baselines: list[PolicyEstimate],
    settings: EvaluationSettings,
) -> Verdict:
    """Judge what may be said about a policy, with the reasons.

    Args:
        policy_estimate: of the policy.
        gates: of the policy.
        baselines: those whose own gates hold; of others nothing is known that a policy could be held against.
        settings: names the recommended estimator.
    """
    if failed := [gate for gate in gates if not gate.passed]:
        reasons = [
            f"{gate.name}: {'undefined' if gate.value is None else format(gate.value, '.3g')}, "
            f"expected {gate.threshold}"
            for gate in failed
        ]
        return Verdict(label=UNIDENTIFIED, reasons=reasons)
    difference, recommended = policy_estimate.difference, settings.gates.recommended
    assert difference is not None and difference.value is not None
    interval = f"{difference.value:+.2f} [{difference.lower:+.2f}, {difference.upper:+.2f}]"
    reasons = [f"difference to clinicians by {difference.estimator} {interval}; every gate holds"]
    own = policy_estimate.estimates[recommended].value
    as_good = [
        other.evaluated.name
        for other in baselines
        if other.evaluated.name != policy_estimate.evaluated.name
        and _at_least(other.estimates[recommended].value, own)
    ]
    if as_good:
        reasons.append(f"no better than {', '.join(as_good)}")
    better = difference.lower is not None and difference.lower > 0 and not as_good
    return Verdict(
        label="better than clinicians" if better else "not better than clinicians", reasons=reasons
    )


def _at_least(value: float | None, other: float | None) -> bool:
    """Whether a value is no smaller than another; an undefined one is smaller than any."""
    return other is None or (value is not None and value >= other)


def identified(
    policy_estimates: Iterable[PolicyEstimate], behavior: np.ndarray, settings: EvaluationSettings
) -> list[PolicyEstimate]:
    """Return the estimates of the policies all of whose gates hold."""
    return [
        policy_estimate
        for policy_estimate in policy_estimates
        if all(gate.passed for gate in check_gates(policy_estimate, behavior, settings))
    ]


def unsupported_share(probabilities: np.ndarray, behavior: np.ndarray, threshold: float) -> float:
    """Return the share of a policy's decisions on actions that clinicians give with less than `threshold`."""
    return float((probabilities * (behavior < threshold)).sum(axis=1).mean())


def largest_magnitude(policy_estimate: PolicyEstimate) -> float | None:
    """Return the largest absolute value or interval end of the gated estimates; None if one is undefined."""
    gated = [value for name, value in policy_estimate.estimates.items() if ESTIMATORS[name].is_gated]
    ends = [end for estimate in gated for end in (estimate.value, estimate.lower, estimate.upper)]
    return None if None in ends else max(abs(end) for end in ends if end is not None)


def _agreement(name: str, family: Estimate, main: Estimate) -> Gate:
    """Whether the intervals of two families overlap; the value is the gap between them, 0 if they do."""
    ends = (family.lower, family.upper, main.lower, main.upper)
    gap = None
    if None not in ends:
        gap = max(0.0, ends[0] - ends[3], ends[2] - ends[1])  # type: ignore[operator]
    return Gate(
        name=f"{name} agrees: gap between its interval and the recommended one",
        value=gap,
        threshold="0",
        passed=gap == 0.0,
    )
