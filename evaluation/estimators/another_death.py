"""The lower end of a difference had another patient died: what a bootstrap cannot know of deaths too rare to be seen.

A bootstrap draws only from what happened. Where by chance none of some fifty patients with a dose died, no resample
holds such a death, and the interval of a policy that gives the dose more often lies above 0 however deadly it is. So
one patient with the worst return is added to every resample, with a random share of the evidence, as the smallest
possible number is in Gaffke's bound on a mean (Gaffke 2005; Learned-Miller & Thomas 2020). His weight is the typical
one of patients whom the policy counts more than the clinicians do: it costs little where the policy is near to them, or
where there are many patients.
"""

import numpy as np

from sepsis_cql.evaluation.estimators.intervals import LEVEL


def bound_with_another_death(
    differences: np.ndarray, weights: np.ndarray, value: float, bound: float, seed: int
) -> float:
    """Return the lower end of the 95% interval of a difference to the clinicians with another death in each resample.

    Args:
        differences: (R,) resampled values of policy less clinicians; NaN where there is none.
        weights: (n_episodes,) untruncated episode weights.
        value: of the policy, in units of reward.
        bound: largest absolute return, minus which is that of a death.
        seed: of the shares of the evidence.
    """
    known = differences[np.isfinite(differences)]
    if len(known) == 0 or not weights.sum() > 0:
        return float("nan")
    more = np.maximum(weights / weights.mean() - 1, 0)
    typical = float((more**2).sum() / more.sum()) if more.any() else 0.0
    shares = np.random.default_rng(seed).exponential(size=len(known)) * typical / len(weights)
    return float(np.quantile(known - shares * (bound + value), (1 - LEVEL) / 2))
