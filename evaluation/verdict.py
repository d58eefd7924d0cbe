"""From numbers to one of three sentences, by rules that `configs/evaluation.yaml` states.

A policy is identified only if every gate holds. An identified policy is better than the clinicians if the interval
of the difference lies above 0 and no identified baseline does as well; otherwise it is not better.
"""

from collections.abc import Iterable

import numpy as np

from sepsis_cql.evaluation.audit import Audit
from sepsis_cql.evaluation.record import Estimate, Gate, Label, Verdict
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.weights import summarise_weights

UNIDENTIFIED: Label = "cannot be identified"


def check_gates(audit: Audit, behavior: np.ndarray, settings: EvaluationSettings) -> list[Gate]:
    """Every rule that must hold before an estimate may be believed.

    Args:
        audit: of the policy.
        behavior: (n, 25) the clinicians' probabilities at the scored states.
        settings: the thresholds.
    """
    rules = settings.gates
    main = audit.estimates[rules.recommended]
    fitted = audit.fqe
    bounding = 0.0 if fitted is None else abs(fitted.value - fitted.bounded_value)
    largest = largest_magnitude(audit)
    return [
        *check_overlap(audit.probabilities, audit.weights, behavior, settings),
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
        *(_agreement(name, audit.estimates[name], main) for name in rules.families),
    ]


def check_overlap(
    probabilities: np.ndarray, weights: np.ndarray, behavior: np.ndarray, settings: EvaluationSettings
) -> list[Gate]:
    """The rules that need no estimate: a policy must mostly do what clinicians do.

    Args:
        probabilities: (n, 25) of the policy at the scored states.
        weights: (n_episodes,) untruncated episode weights.
        behavior: (n, 25) the clinicians' probabilities at the scored states.
        settings: the thresholds.
    """
    rules, summary = settings.gates, summarise_weights(weights)
    unsupported = unsupported_share(probabilities, behavior, rules.support_threshold)
    low, high = rules.mean_weight
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
            value=summary.mean_weight,
            threshold=f"{low:g} to {high:g}",
            passed=low <= summary.mean_weight <= high,
        ),
    ]


def judge(audit: Audit, gates: list[Gate], baselines: list[Audit], settings: EvaluationSettings) -> Verdict:
    """What may be said about a policy, with the reasons.

    Args:
        audit: of the policy.
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
    difference, recommended = audit.difference, settings.gates.recommended
    assert difference is not None and difference.value is not None
    interval = f"{difference.value:+.2f} [{difference.lower:+.2f}, {difference.upper:+.2f}]"
    reasons = [f"difference to clinicians by {difference.estimator} {interval}; every gate holds"]
    own = audit.estimates[recommended].value
    as_good = [
        other.variant.name
        for other in baselines
        if other.variant.name != audit.variant.name and _at_least(other.estimates[recommended].value, own)
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


def identified(audits: Iterable[Audit], behavior: np.ndarray, settings: EvaluationSettings) -> list[Audit]:
    """The audits all of whose gates hold."""
    return [audit for audit in audits if all(gate.passed for gate in check_gates(audit, behavior, settings))]


def unsupported_share(probabilities: np.ndarray, behavior: np.ndarray, threshold: float) -> float:
    """Share of a policy's decisions that fall on actions clinicians give with less than `threshold`."""
    return float((probabilities * (behavior < threshold)).sum(axis=1).mean())


def largest_magnitude(audit: Audit) -> float | None:
    """Largest absolute value or interval end of any estimate the verdict rests on; None if one is undefined.

    DR without self-normalisation is shown, but may exceed the bound for reasons of variance; FQE with bounded targets
    has no interval.
    """
    shown = [
        value for name, value in audit.estimates.items() if name != "dr" and not name.endswith("_bounded")
    ]
    ends = [end for estimate in shown for end in (estimate.value, estimate.lower, estimate.upper)]
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
