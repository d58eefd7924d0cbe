"""Resampling of whole episodes, and the intervals built on it."""

from collections.abc import Iterator

import numpy as np

CHUNK = 4_000_000  # drawn indices held at a time


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
