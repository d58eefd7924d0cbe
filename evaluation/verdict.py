"""From numbers to one of three sentences, by rules that `configs/evaluation.yaml` states.

A policy is identified only if every gate holds that any statement needs. An identified policy whose interval of the
difference does not lie above 0, or that no more than equals an identified baseline, is not better. One that would be
better must pass further gates, each a way in which good numbers have deceived: where one fails it is not identified
either. Episodes that selected a policy never endorse it.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from sepsis_cql.evaluation.estimate import PolicyEstimate
from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.estimators.weights import summarize_weights
from sepsis_cql.evaluation.looks import LOOKS, LUCK, check_looks
from sepsis_cql.evaluation.policies.behavior import Covariate
from sepsis_cql.evaluation.record import Estimate, Gate, Label, PolicyRecord, Verdict
from sepsis_cql.evaluation.settings import EvaluationSettings

UNIDENTIFIED: Label = "cannot be identified"
BETTER: Label = "better than clinicians"
SELECTED_HERE = "validation selected this policy; only the test split can endorse it"
NOT_FROZEN = "validation froze another version of this policy, and only that one can be endorsed"
BARS = (SELECTED_HERE, NOT_FROZEN)  # why good numbers endorse nothing
ONLY_PUBLISHED = (
    "only the published protocol was run, which has no behavior policy, no evaluator and no baseline"
)
DISAGREE = "two families of estimators disagree, as they do where the state does not show all that matters"
ALONE = "it gives doses that patients so alike did not get, so nobody knows what they do"
NO_GAIN = "an estimator that needs no complete state does not find it better"
RARE = "one more death of a patient whom it treats otherwise could undo its advantage"
UNDONE = "what it does and nobody did could undo its advantage"
HIDDEN = "factor of the odds of every dose by which hidden severity leaves the advantage certain"
LEAST_HIDDEN = "the same factor, however little the measured covariates change"
YARDSTICK = re.compile(r"at least (\S+), as leaving out (.+) does")
SUPPORT = "support: share of decisions where clinicians hardly ever act so"
SIZE = "effective sample size"
MEAN_WEIGHT = "mean weight, 1 in expectation"
ATTAINABLE = "bounds: largest value or interval end"
WORST = "value if what the weights miss of the policy went as badly as possible"
ANOTHER_DEATH = "lower end of that difference had another patient died whom the policy treats otherwise"
STABLE = "the evaluator is stable: change of its value when targets are bounded"
NAMED = (
    SUPPORT,
    SIZE,
    MEAN_WEIGHT,
    ATTAINABLE,
    STABLE,
    ANOTHER_DEATH,
    LOOKS,
    WORST,
    HIDDEN,
    LEAST_HIDDEN,
)  # gates without a number in their name
UNDONE_BY = "an unmeasured factor no stronger than {} would undo it"
UNDONE_ALONE = "an unmeasured factor that no covariate tells of could undo it"
MEANINGS = (DISAGREE, ALONE, NO_GAIN, RARE, LUCK, UNDONE, UNDONE_ALONE)
ABOUT_HIDDEN = (HIDDEN, LEAST_HIDDEN)  # which only estimated clinicians are asked


def check_gates(
    policy_estimate: PolicyEstimate,
    behavior: np.ndarray,
    settings: EvaluationSettings,
    covariates: Sequence[Covariate] = (),
    *,
    looks: int = 1,
) -> list[Gate]:
    """Check every rule of the verdict: those that any statement about a policy needs, and those that praise needs.

    Args:
        policy_estimate: of the policy.
        behavior: (n, 25) the clinicians' probabilities at the scored states.
        settings: the thresholds.
        covariates: measured ones as yardsticks, the strongest first; none where the clinicians' policy is known, as
            then nothing hidden can change it.
        looks: policies that these episodes have judged, this one with them.
    """
    rules = settings.gates
    distance, excess = policy_estimate.distance, policy_estimate.local_excess
    return [
        *check_estimates(policy_estimate, behavior, settings),
        Gate(
            name=f"{rules.independent} agrees: standard deviations between it and the recommended value",
            value=distance,
            threshold=f"at most {rules.family_distance:g}",
            passed=distance is not None and distance <= rules.family_distance,
            meaning=DISAGREE,
        ),
        Gate(
            name=f"local support: share of decisions on doses that at most {rules.local_support_count} of the "
            f"{rules.local_neighbors} most similar training states got, beyond the clinicians' own share",
            value=excess,
            threshold=f"at most {rules.local_unsupported_excess:g}",
            passed=excess is not None and excess <= rules.local_unsupported_excess,
            meaning=ALONE,
        ),
        *check_endorsement(policy_estimate, settings),
        *check_looks(policy_estimate, looks),
        *check_hidden(policy_estimate, settings, covariates),
    ]


def check_endorsement(policy_estimate: PolicyEstimate, settings: EvaluationSettings) -> list[Gate]:
    """Check the rules that only an endorsement needs.

    Args:
        policy_estimate: of the policy.
        settings: names the estimator without the Markov property.
    """
    independent = settings.gates.independent
    lower, another = policy_estimate.differences[independent].lower, policy_estimate.another_death
    worst, clinicians = policy_estimate.worst_missing, policy_estimate.clinicians_value
    assert worst is not None and clinicians is not None
    return [
        Gate(
            name=f"lower end of the difference to clinicians by {independent}, which needs no Markov property",
            value=lower,
            threshold="above 0",
            passed=lower is not None and lower > 0,
            is_for_endorsement=True,
            meaning=NO_GAIN,
        ),
        Gate(
            name=ANOTHER_DEATH,
            value=another,
            threshold="above 0",
            passed=another is not None and another > 0,
            is_for_endorsement=True,
            meaning=RARE,
        ),
        Gate(
            name=WORST,
            value=worst,
            threshold=f"above the clinicians' {clinicians:.3g}",
            passed=worst > clinicians,
            is_for_endorsement=True,
            meaning=UNDONE,
        ),
    ]


def check_hidden(
    policy_estimate: PolicyEstimate, settings: EvaluationSettings, covariates: Sequence[Covariate]
) -> list[Gate]:
    """Check that no hidden factor of the least strength, or as strong as the strongest measured one, would undo praise.

    What measured covariates change tells little of hidden ones where several columns hold the same, where each holds
    but a part, as an indicator of one of ten states does, or where clinicians go by nothing that was measured.

    Args:
        policy_estimate: of the policy.
        settings: say whether it is asked, and the least strength.
        covariates: the strongest first.
    """
    rules = settings.gates
    if not covariates or not rules.withstands_covariate:
        return []
    survives, strongest = policy_estimate.certain_gamma, covariates[0]
    return [
        Gate(
            name=HIDDEN,
            value=survives,
            threshold=say_yardstick(f"{strongest.odds:.3g}", strongest.name),
            passed=survives is None or survives >= strongest.odds,
            is_for_endorsement=True,
            meaning=UNDONE_BY.format(strongest.name),
        ),
        Gate(
            name=LEAST_HIDDEN,
            value=survives,
            threshold=f"at least {rules.least_gamma:g}",
            passed=survives is None or survives >= rules.least_gamma,
            is_for_endorsement=True,
            meaning=UNDONE_ALONE,
        ),
    ]


def say_yardstick(odds: str, covariate: str) -> str:
    """Return the threshold that leaving out a covariate sets; `YARDSTICK` reads it."""
    return f"at least {odds}, as leaving out {covariate} does"


def check_estimates(
    policy_estimate: PolicyEstimate, behavior: np.ndarray, settings: EvaluationSettings
) -> list[Gate]:
    """Check the rules by which a sweep ranks: overlap, and estimates that are attainable, stable and overlapping.

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
            name=ATTAINABLE,
            value=largest,
            threshold=f"at most {settings.bound:g}",
            passed=largest is not None and largest <= settings.bound,
        ),
        Gate(
            name=STABLE,
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
            name=SUPPORT,
            value=unsupported,
            threshold=f"at most {rules.unsupported_share:g}",
            passed=unsupported <= rules.unsupported_share,
        ),
        Gate(
            name=SIZE,
            value=summary.ess,
            threshold=f"at least {rules.minimum_ess:g} episodes",
            passed=summary.ess >= rules.minimum_ess,
        ),
        Gate(
            name=MEAN_WEIGHT,
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
    *,
    barred: str | None = None,
) -> Verdict:
    """Judge what may be said about a policy, with the reasons.

    Args:
        policy_estimate: of the policy.
        gates: of the policy.
        baselines: those whose own gates hold; of others nothing is known that a policy could be held against.
        settings: names the recommended estimator.
        barred: why these episodes cannot endorse the policy, one of `BARS`; None where they can.
    """
    failed = [gate for gate in gates if not gate.passed]
    if any(not gate.is_for_endorsement for gate in failed):
        return Verdict(
            label=UNIDENTIFIED, reasons=[explain_gate(gate) for gate in failed if not gate.is_for_endorsement]
        )
    difference, recommended = policy_estimate.difference, settings.gates.recommended
    assert difference is not None and difference.value is not None
    interval = f"{difference.value:+.2f} [{difference.lower:+.2f}, {difference.upper:+.2f}]"
    reasons = [f"difference to clinicians by {difference.estimator} {interval}"]
    own = policy_estimate.estimates[recommended].value
    as_good = [
        other.evaluated.name
        for other in baselines
        if other.evaluated.name != policy_estimate.evaluated.name
        and _at_least(other.estimates[recommended].value, own)
    ]
    if as_good:
        reasons.append(f"no better than {', '.join(as_good)}")
    if difference.lower is None or difference.lower <= 0 or as_good:
        return Verdict(label="not better than clinicians", reasons=reasons)
    if failed or barred:
        why = [explain_gate(gate) for gate in failed] + ([barred] if barred else [])
        return Verdict(label=UNIDENTIFIED, reasons=[*why, *reasons])
    reasons[0] += "; every gate holds"
    return Verdict(label=BETTER, reasons=[*reasons, say_limit(policy_estimate, gates)])


def explain_gate(gate: Gate, value: str | None = None, *, undefined: str = "undefined") -> str:
    """Return in words why a gate failed.

    Args:
        gate: that failed.
        value: how its number is written, if not with three digits.
        undefined: what is written where it has none.
    """
    value = value or (undefined if gate.value is None else f"{gate.value:.3g}")
    found = f"{gate.name}: {value}, expected {gate.threshold}"
    return f"{gate.meaning} ({found})" if gate.meaning else found


def say_limit(found: PolicyEstimate | PolicyRecord, gates: Iterable[Gate]) -> str:
    """Say what hidden confounding an endorsement survives, in one sentence, beside what a covariate changes."""
    stay, decision = found.break_even_gamma, found.break_even_gamma_by_decision
    if stay is None:
        return "better than clinicians, whatever unmeasured severity changed: no return lies below their mean"
    each = "" if decision is None else f", or at every decision by more than a factor of {decision:.2f}"
    if decision is not None and found.certain_gamma is not None:
        each += f" ({found.certain_gamma:.2f} with 95% confidence)"
    for gate in gates:
        if gate.name == HIDDEN and (measured := YARDSTICK.fullmatch(gate.threshold)):
            each += f" (leaving out {measured[2]}, which is measured, changes them by {measured[1]})"
    return (
        "better than clinicians, unless unmeasured severity changes the odds of treatment over a stay by more than "
        f"a factor of {stay:.2f}{each}"
    )


def _at_least(value: float | None, other: float | None) -> bool:
    """Whether a value is no smaller than another; an undefined one is smaller than any."""
    return other is None or (value is not None and value >= other)


def identified(
    policy_estimates: Iterable[PolicyEstimate], behavior: np.ndarray, settings: EvaluationSettings
) -> list[PolicyEstimate]:
    """Return the estimates of the policies for which every gate holds that any statement needs."""
    return [
        policy_estimate
        for policy_estimate in policy_estimates
        if is_identified(check_gates(policy_estimate, behavior, settings))
    ]


def is_identified(gates: Iterable[Gate]) -> bool:
    """Return whether every gate holds that any statement about a policy needs."""
    return all(gate.passed or gate.is_for_endorsement for gate in gates)


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
