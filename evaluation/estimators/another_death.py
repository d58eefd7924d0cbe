"""The lower end of a difference had another patient died: what a bootstrap cannot know of deaths too rare to be seen.

A bootstrap draws only from what happened. Where by chance none of some fifty patients with a dose died, no resample
holds such a death, and the interval of a policy that gives the dose more often lies above 0 however deadly it is. So
one patient with the worst return is added to every resample, with a random share of the evidence, as the smallest
possible number is in Gaffke's bound on a mean (Gaffke 2005; Learned-Miller & Thomas 2020). His weight is the typical
one of patients whom the policy counts more than the clinicians do: it costs little where the policy is near to them, or
where there are many patients. A weight that nobody got is not among theirs: where a policy gives a dose many times as
often as the clinicians, and hardly one such decision is seen, he stands for all that the policy gives there.
"""

import numpy as np

from sepsis_cql.evaluation.estimators.episodes import select_rows
from sepsis_cql.evaluation.estimators.intervals import LEVEL

TIMES = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # as often as the clinicians a policy gives a dose


def weigh_little_seen(probabilities: np.ndarray, behavior: np.ndarray, actions: np.ndarray) -> float:
    """Return how many patients' weight one more would have among those with doses that the policy gives far more often.

    For each number of `TIMES`, the doses that the policy gives at least so many times as often as the clinicians are
    its own to so many patients, and were seen in some decisions; one more shares what it gives with those.

    Args:
        probabilities: (n, 25) of the policy at the scored states.
        behavior: (n, 25) the clinicians' probabilities there.
        actions: (n,) what they did.

    Returns:
        The largest of these weights, 0 where no dose is given so much more often.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(probabilities > 0, probabilities / behavior, 0.0)
    seen = select_rows(ratios, actions)
    return max(
        float((probabilities * (ratios >= times)).sum() / ((seen >= times).sum() + 1)) for times in TIMES
    )


def bound_with_another_death(
    differences: np.ndarray,
    weights: np.ndarray,
    value: float,
    bound: float,
    seed: int,
    *,
    little_seen: float = 0.0,
) -> float:
    """Return the lower end of the 95% interval of a difference to the clinicians with another death in each resample.

    Args:
        differences: (R,) resampled values of policy less clinicians; NaN where there is none.
        weights: (n_episodes,) untruncated episode weights.
        value: of the policy, in units of reward.
        bound: largest absolute return, minus which is that of a death.
        seed: of the shares of the evidence.
        little_seen: weight of one more patient with doses that are little seen, where it is the larger one.
    """
    known = differences[np.isfinite(differences)]
    if len(known) == 0 or not weights.sum() > 0:
        return float("nan")
    more = np.maximum(weights / weights.mean() - 1, 0)
    typical = float((more**2).sum() / more.sum()) if more.any() else 0.0
    one = max(typical, little_seen)
    shares = np.random.default_rng(seed).exponential(size=len(known)) * one / len(weights)
    return float(np.quantile(known - shares * (bound + value), (1 - LEVEL) / 2))
