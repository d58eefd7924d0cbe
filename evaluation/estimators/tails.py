"""Conditional value at risk: the mean return of the worst-off share of patients, weighted for a policy."""

from collections.abc import Iterable

import numpy as np


def mean_of_worst(returns: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Return (...) mean returns of the worst `share` of the weighted episodes; NaN where every weight is 0.

    The episode at the edge of the share counts with the part of its weight that is inside (Rockafellar & Uryasev 2002).

    Args:
        returns: (n,) of the episodes.
        weights: (..., n) of the episodes, 1 for the clinicians.
        share: of the patients.
    """
    order = np.argsort(returns)
    ordered = weights[..., order]
    inside = share * ordered.sum(axis=-1, keepdims=True)
    taken = np.clip(inside - (np.cumsum(ordered, axis=-1) - ordered), 0, ordered)
    undefined = np.full(taken.shape[:-1], np.nan)
    total = inside[..., 0]
    return np.divide(taken @ returns[order], total, out=undefined, where=total > 0)


def bootstrap_worst(
    returns: np.ndarray, weights: np.ndarray, share: float, counts: Iterable[np.ndarray]
) -> tuple[float, float, float]:
    """Return the mean of the worst share with its 95% percentile bootstrap interval.

    Args:
        returns: (n,) of the episodes.
        weights: (n,) of the episodes.
        share: of the patients.
        counts: chunks of (R, n) how often each episode is drawn.
    """
    drawn = np.concatenate([mean_of_worst(returns, weights * chunk, share) for chunk in counts])
    lower, upper = np.quantile(drawn[np.isfinite(drawn)], [0.025, 0.975])
    return float(mean_of_worst(returns, weights, share)), float(lower), float(upper)
