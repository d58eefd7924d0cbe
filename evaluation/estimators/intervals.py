"""Bootstrap of whole episodes, and the 95% intervals of estimators that are functions of sums over episodes."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.stats import norm

from sepsis_cql.evaluation.estimators.episodes import patients_of
from sepsis_cql.evaluation.estimators.importance import SumEstimator
from sepsis_cql.replay.transitions import Transitions

LEVEL = 0.95  # of every interval
CHUNK = 65_000  # drawn indices at a time, which stay in the cache of a processor
Method = Literal["bca", "percentile", "delta"]


def compute_interval(
    estimator: SumEstimator, counts: np.ndarray, method: Method = "bca"
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of an estimator; NaN where it is undefined.

    Args:
        estimator: the statistic.
        counts: (R, n_episodes) how often each episode was drawn.
        method: bca, percentile or delta (normal with the jackknife's standard error).
    """
    return _ends(estimator.value, estimator.resampled(counts), estimator.leave_one_out(), method)


def compute_difference_interval(
    a: SumEstimator, b: SumEstimator, counts: np.ndarray, method: Method = "bca"
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of value(a) - value(b) on the same resamples; see `compute_interval`."""
    return _ends(
        a.value - b.value,
        a.resampled(counts) - b.resampled(counts),
        a.leave_one_out() - b.leave_one_out(),
        method,
    )


def _ends(value: float, resampled: np.ndarray, jackknife: np.ndarray, method: Method) -> tuple[float, float]:
    resampled, jackknife = (values[np.isfinite(values)] for values in (resampled, jackknife))
    if not np.isfinite(value) or len(resampled) < 2 or len(jackknife) < 2:
        return float("nan"), float("nan")
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
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


def compute_normal_interval(value: float, resampled: np.ndarray) -> tuple[float, float]:
    """Return the 95% normal interval of a value with the standard deviation of its resamples."""
    margin = norm.ppf((1 + LEVEL) / 2) * deviation(resampled)
    return float(value - margin), float(value + margin)


def deviation(resampled: np.ndarray) -> float:
    """Return the standard deviation of resampled values that are defined; NaN where fewer than two are."""
    known = resampled[np.isfinite(resampled)]
    return float(known.std(ddof=1)) if len(known) > 1 else np.nan


def resample_counts(n_episodes: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield (chunk, n_episodes) counts of how often each episode is drawn, `n_resamples` rows in all.

    Row r equals the r-th of `n_resamples` successive draws of `n_episodes` indices from `default_rng(seed)`.
    """
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK // n_episodes)
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        drawn = rng.integers(0, n_episodes, size=(size, n_episodes))
        drawn += np.arange(size)[:, None] * n_episodes
        yield (
            np.bincount(drawn.ravel(), minlength=size * n_episodes)
            .reshape(size, n_episodes)
            .astype(np.float64)
        )


def resample_patients(transitions: Transitions, n_resamples: int, seed: int) -> np.ndarray:
    """Return (n_resamples, n_episodes) counts of how often each episode is drawn.

    Patients are drawn, each with all of their episodes: those of one patient are no independent evidence.
    """
    patient = patients_of(transitions)
    drawn = np.concatenate(list(resample_counts(int(patient.max()) + 1, n_resamples, seed)))
    return np.take(drawn, patient, axis=1)
