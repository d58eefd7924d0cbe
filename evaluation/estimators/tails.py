"""Conditional value at risk: the mean return of the worst-off share of patients, weighted for a policy."""

from collections.abc import Iterable, Sequence

import numpy as np


def mean_of_worst(returns: np.ndarray, weights: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return (..., k) mean returns of the worst of the weighted episodes; NaN where every weight is 0.

    The episode at the edge of a share counts with the part of its weight that is inside (Rockafellar & Uryasev 2002).

    Args:
        returns: (n,) of the episodes.
        weights: (..., n) of the episodes, 1 for the clinicians.
        shares: k shares of the patients.
    """
    order = np.argsort(returns)
    ordered = weights[..., order]
    upto = np.cumsum(ordered, axis=-1)
    before, totals = upto - ordered, upto[..., -1]
    means = np.full((*totals.shape, len(shares)), np.nan)
    for index, share in enumerate(shares):
        inside = share * totals
        taken = np.clip(inside[..., None] - before, 0, ordered)
        np.divide(taken @ returns[order], inside, out=means[..., index], where=inside > 0)
    return means


def bootstrap_worst(
    returns: np.ndarray, weights: np.ndarray, shares: Sequence[float], counts: Iterable[np.ndarray]
) -> np.ndarray:
    """Return (k, 3) means of the worst, each with the ends of its 95% percentile bootstrap interval.

    Args:
        returns: (n,) of the episodes.
        weights: (n,) of the episodes, not all 0.
        shares: k shares of the patients.
        counts: chunks of (R, n) how often each episode is drawn.
    """
    drawn = np.concatenate([mean_of_worst(returns, weights * chunk, shares) for chunk in counts])
    ends = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return np.column_stack([mean_of_worst(returns, weights, shares), *ends])
