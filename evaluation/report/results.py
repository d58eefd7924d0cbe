"""What of an estimate is a result: one rule for terminal, card, metadata, page and figures."""

from dataclasses import dataclass

from sepsis_cql.evaluation.estimators.table import ESTIMATORS
from sepsis_cql.evaluation.known_truth.record import CalibrationLine
from sepsis_cql.evaluation.original_protocol import OriginalMetrics
from sepsis_cql.evaluation.record import PolicyRecord

FAILED = "failed"
NOT_SHOWN = "not shown"
UNATTAINABLE = "unattainable"  # of what a definition may give and no return can be
FEWEST = 2.0  # effective episodes, below which an estimate by weights is that of one episode
WHY_FAILED = (
    "undefined, outside the attainable range of -{0:g} to {0:g}, or weights on fewer than two episodes"
)


@dataclass(frozen=True)
class Result:
    """A value in return units that can be attained, with its 95% interval cut off where returns end."""

    value: float
    lower: float | None
    upper: float | None

    def __str__(self) -> str:
        if self.lower is None or self.upper is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.lower:.2f}, {self.upper:.2f}]"


def name_policy(name: str, policy: str) -> str:
    """Return how figures, page and terminal call a policy: without the name of its directory."""
    if name == policy:
        return "the policy as it acts"
    return name.removeprefix(f"{policy}, ").replace(" x exp(Q / ", " × exp(Q / ")


def make_result(
    value: float | None, lower: float | None, upper: float | None, bound: float, *, ess: float | None = None
) -> Result | None:
    """Return the result; None where there is no value, it cannot be attained, or it rests on fewer than two episodes.

    Args:
        value: of a policy, in return units.
        lower: end of its interval.
        upper: end of its interval.
        bound: largest attainable absolute value.
        ess: effective episodes of the weights that it rests on; None where it rests on none.
    """
    if value is None or abs(value) > bound or (ess is not None and ess < FEWEST):
        return None
    if lower is None or upper is None:
        return Result(value, None, None)
    return Result(value, max(lower, -bound), min(upper, bound))


def find_result(policy: PolicyRecord, name: str, bound: float) -> Result | None:
    """Return what an estimator found of a policy, if it is a result."""
    if (estimate := policy.estimates.get(name)) is None:
        return None
    ess = policy.weights.ess if ESTIMATORS[name].rests_on_weights else None
    return make_result(estimate.value, estimate.lower, estimate.upper, bound, ess=ess)


def find_difference(policy: PolicyRecord, bound: float) -> Result | None:
    """Return the policy's value minus the clinicians'; None where the value that it rests on is no result."""
    found = policy.difference_to_clinicians
    if found is None or find_result(policy, found.estimator, bound) is None:
        return None
    return make_result(found.value, found.lower, found.upper, 2 * bound)


def find_published(found: OriginalMetrics, name: str, bound: float) -> Result | None:
    """Return "fqe" or "wis" by the published definition, if it is a result."""
    ess = found.ess if name == "wis" else None
    value, lower, upper = (getattr(found, f"{name}_{part}") for part in ("mean", "lower", "upper"))
    return make_result(value, lower, upper, bound, ess=ess)


def say_published(value: float | None, bound: float, digits: int = 2) -> str:
    """Return a value by a published definition, marked where no return is as large; "not shown" where there is none."""
    if value is None:
        return NOT_SHOWN
    return f"{value:,.{digits}f}" + (f" ({UNATTAINABLE})" if abs(value) > bound else "")


def find_bias(line: CalibrationLine, bound: float) -> float | None:
    """Return the mean error of an estimator; None where its mean estimate cannot be attained."""
    bias = line.quality.bias
    return None if bias is None or abs(line.policy.true_value + bias) > bound else bias


def say_estimate(policy: PolicyRecord, name: str, bound: float) -> str:
    """Return `7.62 [3.49, 11.75]`, or "failed", "not shown" of what was left out, "" of what was not made."""
    if (estimate := policy.estimates.get(name)) is None:
        return ""
    return NOT_SHOWN if estimate.value is None else str(find_result(policy, name, bound) or FAILED)


def say_difference(policy: PolicyRecord, bound: float) -> str:
    """Return the difference to the clinicians in the words of `say_estimate`."""
    if (found := policy.difference_to_clinicians) is None:
        return ""
    return NOT_SHOWN if found.value is None else str(find_difference(policy, bound) or FAILED)
