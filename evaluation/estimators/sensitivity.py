"""Hidden confounding in numbers: how wrong the weights of episodes may be before a conclusion changes.

Two marginal sensitivity models (Tan 2006). Over a stay: severity that nobody recorded may have changed the odds of the
treatment a patient got by a factor between 1 / Gamma and Gamma, and so the episode's weight. At every decision (as in
Kallus & Zhou 2020, and the baseline of Namkoong et al. 2020): it may have changed the odds of each dose by such a
factor; a dose given with probability b then has a true inverse probability of 1 + lambda (1 / b - 1) with
1 / Gamma <= lambda <= Gamma, so that likely doses leave little room. Its bound holds for confounders that change or
stay, and is not the sharpest for one that stays. With Gamma = 1 nothing is hidden.

True weights must balance what they cannot change: given the first state and dose their mean is known, so that a hidden
factor cannot also shift weight towards patients who were seen to do badly from the start. This constraint on a
predicted value makes the bound sharper (quantile balancing, Dorn & Guo 2022).
"""

import numpy as np
from scipy.optimize import brentq, minimize_scalar

LARGEST_GAMMA = 100.0  # beyond which a conclusion survives everything
STEEPEST = 2.0  # return gained for a unit of predicted return


def break_even(returns: np.ndarray, weights: np.ndarray, target: float) -> float | None:
    """Return the Gamma at which the smallest weighted mean return falls to a target.

    The minimum equals the target where the smallest sum of weight x (return - target) is 0: with the weights of
    returns below it raised and of those above it lowered, Gamma^2 is the ratio of the two sums.

    Args:
        returns: (n_episodes,).
        weights: (n_episodes,) non-negative, as estimated.
        target: mean return to stay above.

    Returns:
        1 if it never was above, None if no Gamma is enough.
    """
    excess = weights * (returns - target)
    above, below = float(excess[excess > 0].sum()), float(-excess[excess < 0].sum())
    if above <= below:
        return 1.0
    return float(np.sqrt(above / below)) if below > 0 else None


def break_even_by_decision(
    returns: np.ndarray,
    weights: np.ndarray,
    given: np.ndarray,
    predicted: np.ndarray | None = None,
    *,
    standard_errors: float = 0.0,
) -> float | None:
    """Return the Gamma of every decision at which the lowest value falls to the mean return of the same episodes.

    Args:
        returns: (n_episodes,).
        weights: (n_episodes,) as estimated.
        given: (n_episodes, horizon) the clinicians' probability of the dose that was given, 1 after the end.
        predicted: (n_episodes,) value of the first state and dose, by a model of other episodes; nothing is balanced
            without it.
        standard_errors: of the difference by which it must lie above; 1.96 give the lower end of a 95% interval.

    Returns:
        1 if it never was above, None if no Gamma is enough.
    """
    if not weights.sum() > 0:
        return 1.0
    mean = returns.mean()
    balanced = (
        np.zeros(len(returns)) if predicted is None else predicted - weights @ predicted / weights.sum()
    )

    def lower(gamma: float) -> float:
        parts, factors = lowest_parts(returns - mean, weights, given, balanced, gamma)
        if standard_errors == 0:
            return float(parts.sum())
        with np.errstate(over="ignore"):  # of a large Gamma over many decisions: -inf is below, too
            spread = (
                parts - (weights * factors).mean() * (returns - mean)
            ).std()  # with the clinicians' mean
        return float(np.nan_to_num(parts.sum() - standard_errors * spread * np.sqrt(len(parts))))

    if lower(1.0) <= 0:
        return 1.0
    return float(brentq(lower, 1.0, LARGEST_GAMMA)) if lower(LARGEST_GAMMA) < 0 else None


def lowest_parts(
    excess: np.ndarray, weights: np.ndarray, given: np.ndarray, balanced: np.ndarray, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n_episodes,) terms of the smallest sum of true weight x excess, and by what factors weights then err.

    Factors are free within what `gamma` allows, but the sum of true weight x `balanced` is 0. By duality the smallest
    sum is the largest, over slopes, of the smallest sum of true weight x (excess - slope x balanced).

    Args:
        excess: (n_episodes,) returns beyond what they are compared with.
        weights: (n_episodes,) as estimated.
        given: (n_episodes, horizon) the clinicians' probability of the dose that was given, 1 after the end.
        balanced: (n_episodes,) with a weighted sum of 0; all 0 where nothing is balanced.
        gamma: of every decision, at least 1.
    """
    low, high = ((given + (1 - given) * factor).prod(axis=1) for factor in (1 / gamma, gamma))

    def terms(slope: float) -> tuple[np.ndarray, np.ndarray]:
        rest = weights * (excess - slope * balanced)
        factors = np.where(rest > 0, low, high)
        return rest * factors, factors

    slope = 0.0
    if balanced.any() and gamma > 1:
        slope = minimize_scalar(
            lambda slope: -terms(slope)[0].sum(), bounds=(-STEEPEST, STEEPEST), method="bounded"
        ).x
    return terms(slope)
