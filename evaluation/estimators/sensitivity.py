"""Hidden confounding in numbers: how wrong the weights of episodes may be before a conclusion changes.

An episode-level marginal sensitivity model (Tan 2006): severity that nobody recorded may have changed the odds of the
treatment a patient got over the stay by a factor between 1 / Gamma and Gamma, and so the episode's weight. With
Gamma = 1 nothing is hidden.
"""

import numpy as np


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
