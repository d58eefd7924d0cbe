"""The gate that asks more of a policy the more policies its test split has judged."""

from scipy.stats import norm

from sepsis_cql.evaluation.estimate import PolicyEstimate
from sepsis_cql.evaluation.record import Gate

LOOKS = "lower end of both differences at the level left by the policies that this test split has judged"
LUCK = "the best of so many policies looks better by luck alone"
FAMILY_WISE = 0.05  # chance that any of however many equal policies on one test split is endorsed


def check_looks(policy_estimate: PolicyEstimate, looks: int) -> list[Gate]:
    """Check that a policy is better also at the level that those judged before it on the same episodes leave.

    The k-th of them is asked at 0.05 / (k (k + 1)), one-sided, which is 0.025 for the first and adds up to 0.05.

    Args:
        policy_estimate: of the policy.
        looks: policies that these episodes have judged, this one with them.
    """
    if looks <= 1:
        return []
    wider = norm.isf(FAMILY_WISE / (looks * (looks + 1))) / norm.isf(FAMILY_WISE / 2)
    ends = [
        None if one.value is None or one.lower is None else one.value - wider * (one.value - one.lower)
        for one in policy_estimate.differences.values()
    ]
    lower = None if None in ends else float(min(end for end in ends if end is not None))
    return [
        Gate(
            name=LOOKS,
            value=lower,
            threshold="above 0",
            passed=lower is not None and lower > 0,
            is_for_endorsement=True,
            meaning=LUCK,
        )
    ]
