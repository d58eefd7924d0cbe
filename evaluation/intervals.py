"""95% intervals of estimators that are functions of sums over episodes, from resampled episodes."""

from typing import Literal

import numpy as np
from scipy.stats import norm

from sepsis_cql.evaluation.importance import SumEstimator

Method = Literal["bca", "percentile", "delta"]


def interval(
    estimator: SumEstimator, counts: np.ndarray, method: Method = "bca", level: float = 0.95
) -> tuple[float, float]:
    """Lower and upper end; NaN where the estimator is undefined.

    Args:
        estimator: the statistic.
        counts: (R, n_episodes) how often each episode was drawn.
        method: bca, percentile or delta (normal with the jackknife's standard error).
        level: coverage aimed at.
    """
    return _ends(estimator.value, estimator.resampled(counts), estimator.leave_one_out(), method, level)


def difference_interval(
    a: SumEstimator, b: SumEstimator, counts: np.ndarray, method: Method = "bca", level: float = 0.95
) -> tuple[float, float]:
    """Interval of value(a) - value(b) on the same resamples."""
    return _ends(
        a.value - b.value,
        a.resampled(counts) - b.resampled(counts),
        a.leave_one_out() - b.leave_one_out(),
        method,
        level,
    )


def _ends(
    value: float, resampled: np.ndarray, jackknife: np.ndarray, method: Method, level: float
) -> tuple[float, float]:
    resampled, jackknife = (values[np.isfinite(values)] for values in (resampled, jackknife))
    if not np.isfinite(value) or len(resampled) < 2 or len(jackknife) < 2:
        return float("nan"), float("nan")
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "delta":
        error = float(np.sqrt((len(jackknife) - 1) * jackknife.var()))
        lower, upper = value + norm.ppf(tails) * error
        return float(lower), float(upper)
    if method == "bca":
        tails = _bca_tails(value, resampled, jackknife, tails)
    lower, upper = np.quantile(resampled, tails)
    return float(lower), float(upper)


def _bca_tails(value: float, resampled: np.ndarray, jackknife: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Bias-corrected and accelerated quantile levels (Efron 1987)."""
    below = (np.count_nonzero(resampled < value) + np.count_nonzero(resampled == value) / 2) / len(resampled)
    bias = norm.ppf(np.clip(below, 1 / len(resampled), 1 - 1 / len(resampled)))
    pulls = jackknife.mean() - jackknife
    spread = (pulls**2).sum() ** 1.5
    acceleration = (pulls**3).sum() / (6 * spread) if spread > 0 else 0.0
    z = bias + norm.ppf(tails)
    return norm.cdf(bias + z / (1 - acceleration * z))
