"""Importance-sampling and doubly robust estimators as sums over episodes.

Every estimator is a `SumEstimator`: one row of numbers an episode, and a function of the column sums. The same
object then gives the point value, all bootstrap resamples (counts @ rows) and the jackknife (total - row), so a
truncation chosen once applies to all three alike.

rho_t is the product of pi(a|s) / b(a|s) up to step t. After the end of an episode rho is carried forward and reward,
Q and V are 0; normalizing over live episodes only is biased even on-policy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sepsis_cql.evaluation.estimators.episodes import Episodes


@dataclass(frozen=True)
class SumEstimator:
    """A statistic that is a function of sums over episodes.

    Attributes:
        rows: (n_episodes, k) contributions of each episode.
        combine: (..., k) column sums to (...) values; NaN where every weight is 0.
    """

    rows: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray]

    @property
    def value(self) -> float:
        """The point estimate."""
        return float(self.combine(self.rows.sum(axis=0)))

    def resampled(self, counts: np.ndarray) -> np.ndarray:
        """Return (R,) values for (R, n_episodes) counts of how often each episode was drawn."""
        return self.combine(counts @ self.rows)

    def leave_one_out(self) -> np.ndarray:
        """Return (n_episodes,) jackknife values, without each episode in turn."""
        return self.combine(self.rows.sum(axis=0) - self.rows)


def mean_estimator(values: np.ndarray) -> SumEstimator:
    """Return the plain mean of one value an episode."""
    return SumEstimator(np.stack([values, np.ones_like(values)], axis=1), _ratio)


def weighted_importance_sampling(episodes: Episodes, rho: np.ndarray) -> SumEstimator:
    """Return weighted importance sampling (WIS): sum of rho_{T-1} G over sum of rho_{T-1}."""
    return SumEstimator(np.stack([rho[:, -1] * episodes.returns, rho[:, -1]], axis=1), _ratio)


def weighted_per_decision(episodes: Episodes, rho: np.ndarray) -> SumEstimator:
    """Return per-decision WIS (PDWIS): sum_t gamma^t (sum_i rho_it r_it) / (sum_i rho_it), over all episodes."""
    discounts, horizon = episodes.discounts, rho.shape[1]

    def combine(sums: np.ndarray) -> np.ndarray:
        return _divide(sums[..., :horizon], sums[..., horizon:]) @ discounts

    return SumEstimator(np.concatenate([rho * episodes.rewards, rho], axis=1), combine)


def doubly_robust(episodes: Episodes, rho: np.ndarray, q: np.ndarray, v: np.ndarray) -> SumEstimator:
    """Return the doubly robust estimator (Jiang & Li 2016): mean of sum_t gamma^t [rho_t (r_t - Q_t) + rho_{t-1} V_t].

    Args:
        episodes: the scored episodes.
        rho: (n_episodes, horizon) cumulative ratios.
        q: (n_episodes, horizon) Q(s_t, a_t) of a model fitted on other episodes; 0 after the end.
        v: (n_episodes, horizon) sum_a pi(a|s_t) Q(s_t, a) under the evaluated policy; 0 after the end.
    """
    return mean_estimator((rho * (episodes.rewards - q) + _previous(rho) * v) @ episodes.discounts)


def weighted_doubly_robust(episodes: Episodes, rho: np.ndarray, q: np.ndarray, v: np.ndarray) -> SumEstimator:
    """Return the weighted doubly robust estimator (Thomas & Brunskill 2016): the weights of each step sum to 1.

    Its arguments are those of `doubly_robust`.
    """
    discounts = episodes.discounts
    previous = _previous(rho)
    rows = np.concatenate([rho * (episodes.rewards - q), previous * v, rho, previous], axis=1)

    def combine(sums: np.ndarray) -> np.ndarray:
        correction, model, weight, weight_before = np.split(sums, 4, axis=-1)
        return (_divide(correction, weight) + _divide(model, weight_before)) @ discounts

    return SumEstimator(rows, combine)


def _previous(rho: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((len(rho), 1)), rho[:, :-1]], axis=1)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return _divide(sums[..., 0], sums[..., 1])


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    undefined = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)
