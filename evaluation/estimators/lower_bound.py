"""A lower bound on a mean that holds at any number of episodes, however heavy the tail of the weights is.

High-confidence off-policy evaluation (Thomas, Theocharous & Ghavamzadeh 2015) asks for a bound that needs no large
sample. Theirs clips the weights; this one bets (Waudby-Smith & Ramdas 2024, J. R. Stat. Soc. B 86:1): if a mean of
numbers that cannot be negative were m, nobody who bets on each number before seeing it could multiply his money by 20
with a probability above 1/20 (Ville's inequality). The bound is the largest m at which the bets made here do. Only a
smallest number is needed, no largest, so weights are neither clipped nor normalized.

It assumes independent patients, and clinicians' probabilities that are known: where they are estimated it is as good
as they are.
"""

import numpy as np
from scipy.optimize import brentq

from sepsis_cql.evaluation.estimators.intervals import LEVEL

LARGEST_BET = 0.75  # share of what there is that one number can lose


def bound_mean(numbers: np.ndarray) -> float:
    """Return a bound below the mean with 95% probability; 0 where nothing can be said.

    Args:
        numbers: (n,) independent and not negative, in an order that does not depend on them; best in units in which
            the mean is at most about 1.
    """
    n, goal = len(numbers), np.log(1 / (1 - LEVEL))
    seen = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(numbers)) / (seen + 1)
    variances = (0.25 + np.cumsum((numbers - means) ** 2)) / (seen + 1)
    bets = np.sqrt(2 * goal / (n * np.r_[0.25, variances[:-1]]))  # each from the numbers before it

    def missing(mean: float) -> float:
        largest = LARGEST_BET / mean if mean > 0 else np.inf
        return float(np.log1p(np.minimum(bets, largest) * (numbers - mean)).sum() - goal)

    if missing(0.0) <= 0:
        return 0.0
    return float(brentq(missing, 0.0, numbers.max() + 1e-9))


def bound_value(returns: np.ndarray, weights: np.ndarray, bound: float) -> float:
    """Return a bound below the value of a policy with 95% probability.

    Args:
        returns: (n,) of the episodes, in units of reward, as is the bound that is returned.
        weights: (n,) importance weights of the episodes, untruncated.
        bound: largest absolute return, which none of `returns` may exceed.
    """
    shares = (returns + bound) / (2 * bound)
    return 2 * bound * min(bound_mean(part * shares) for part in _scale(weights)) - bound


def bound_difference(returns: np.ndarray, weights: np.ndarray, bound: float) -> float:
    """Return a bound below the value of a policy minus that of the clinicians, who made the episodes.

    Args:
        returns: (n,) of the episodes, in units of reward, as is the bound that is returned.
        weights: (n,) importance weights of the episodes, untruncated.
        bound: largest absolute return, which none of `returns` may exceed.
    """
    shares = (returns + bound) / (2 * bound)
    return 2 * bound * (min(bound_mean(part * shares - shares + 1) for part in _scale(weights)) - 1)


def _scale(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weights, and the same with a mean of at most 1, its expectation.

    The lower of two bounds holds where the first does; the second does not praise a policy for clinicians'
    probabilities that were estimated too low.
    """
    return weights, weights / max(1.0, float(weights.mean()))
