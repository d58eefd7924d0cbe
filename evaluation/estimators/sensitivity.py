"""Hidden confounding in numbers: how wrong the weights of episodes may be before a conclusion changes.

Two marginal sensitivity models (Tan 2006). Over a stay: severity that nobody recorded may have changed the odds of the
treatment a patient got by a factor between 1 / Gamma and Gamma, and so the episode's weight. At every decision (as in
Kallus & Zhou 2020, and the baseline of Namkoong et al. 2020): it may have changed the odds of each dose by such a
factor; a dose given with probability b then has a true inverse probability of 1 + lambda (1 / b - 1) with
1 / Gamma <= lambda <= Gamma, so that likely doses leave little room. Its bound holds for confounders that change or
stay, and is not the sharpest for one that stays. With Gamma = 1 nothing is hidden.
"""

import numpy as np
from scipy.optimize import brentq

LARGEST_GAMMA = 100.0  # beyond which a conclusion survives everything


def lower_value(returns: np.ndarray, weights: np.ndarray, gamma: float) -> float:
    """Return the smallest weighted mean return when weights may be wrong by a factor of `gamma`; NaN without any.

    The minimum of this linear-fractional program gives all episodes below some return the largest weight and all
    others the smallest, so that sorting finds it.

    Args:
        returns: (n_episodes,).
        weights: (n_episodes,) non-negative, as estimated.
        gamma: at least 1.
    """
    order = np.argsort(returns)
    weight, weighted = weights[order], (weights * returns)[order]
    raised, low = (np.r_[0.0, np.cumsum(values)] for values in (weight, weighted))
    mass = gamma * raised + (raised[-1] - raised) / gamma
    if mass[-1] <= 0:
        return float("nan")
    return float(((gamma * low + (low[-1] - low) / gamma) / mass).min())


def break_even(returns: np.ndarray, weights: np.ndarray, target: float) -> float | None:
    """Return the Gamma at which `lower_value` falls to a target; 1 if it never was above, None if none is enough.

    The minimum equals the target where the smallest sum of weight x (return - target) is 0: with the weights of
    returns below it raised and of those above it lowered, Gamma^2 is the ratio of the two sums.
    """
    excess = weights * (returns - target)
    above, below = float(excess[excess > 0].sum()), float(-excess[excess < 0].sum())
    if above <= below:
        return 1.0
    return float(np.sqrt(above / below)) if below > 0 else None


def break_even_by_decision(
    returns: np.ndarray, weights: np.ndarray, given: np.ndarray, target: float
) -> float | None:
    """Return the Gamma of every decision at which the lowest value falls to a target; 1 and None as in `break_even`.

    Args:
        returns: (n_episodes,).
        weights: (n_episodes,) as estimated.
        given: (n_episodes, horizon) the clinicians' probability of the dose that was given, 1 after the end.
        target: value to fall to.
    """
    excess = weights * (returns - target)
    if not excess.sum() > 0:
        return 1.0

    def lowest(gamma: float) -> float:
        """Smallest sum of weight x (return - target): zero where the lowest weighted mean is the target."""
        low, high = ((given + (1 - given) * factor).prod(axis=1) for factor in (1 / gamma, gamma))
        return float((excess * np.where(excess > 0, low, high)).sum())

    return float(brentq(lowest, 1.0, LARGEST_GAMMA)) if lowest(LARGEST_GAMMA) < 0 else None
