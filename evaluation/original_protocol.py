"""The published evaluation, number for number, under its own label.

Its definitions are kept because they are what the published card reports, not because they are sound: "FQE" is the
mean of max_a Q(s_0, a) of the policy's own network, and the behavior probability of a step is the share of its
action in the evaluated file, whatever the state. The sound estimates stand beside them in the same report.
"""

import numpy as np

from sepsis_cql.common.privacy import Count, hide_count
from sepsis_cql.common.strict import Record
from sepsis_cql.evaluation.estimators.episodes import pad_episodes
from sepsis_cql.evaluation.estimators.importance import (
    SumEstimator,
    mean_estimator,
    weighted_importance_sampling,
)
from sepsis_cql.evaluation.estimators.intervals import resample_counts
from sepsis_cql.evaluation.estimators.weights import effective_sample_size
from sepsis_cql.replay.transitions import Transitions

RATIO_LIMIT = 50.0  # cap on each per-step ratio while checkpoints are selected; the final evaluation has none
SEED = 42
ENDS = ("mean", "lower", "upper")


class OriginalMetrics(Record):
    """Metrics by the published definitions; field names as in the published files where they have one.

    A WIS that rests on few patients is None in a published record.
    """

    fqe_mean: float
    fqe_lower: float
    fqe_upper: float
    wis_mean: float | None
    wis_lower: float | None
    wis_upper: float | None
    ess: float
    n_episodes: Count
    bootstrap_resamples: int
    initial_state_max_q_mean: float
    wis_point_clipped50: float | None
    ess_point_clipped50: float
    wis_nonzero_episodes: Count


def original_metrics(
    transitions: Transitions, q_values: np.ndarray, *, gamma: float, n_resamples: int = 1000, seed: int = SEED
) -> OriginalMetrics:
    """Evaluate a greedy policy exactly as the published code does.

    Args:
        transitions: the evaluated file, sorted by stay and step.
        q_values: (n, n_actions) the policy network's own values.
        gamma: discount of one step.
        n_resamples: bootstrap resamples R.
        seed: of both bootstraps, each from its own generator.
    """
    episodes = pad_episodes(transitions, gamma)
    shares = np.bincount(transitions.actions, minlength=q_values.shape[1]) / len(transitions)
    follows = q_values.argmax(axis=1) == transitions.actions
    ratios = episodes.pad(follows / shares[transitions.actions], fill=1.0)
    initial_values = q_values[transitions.episode_starts].max(axis=1).astype(np.float64)

    clipped = np.minimum(ratios, RATIO_LIMIT).prod(axis=1, keepdims=True)
    weights = ratios.prod(axis=1, keepdims=True)
    fqe, wis = _intervals(
        [mean_estimator(initial_values), weighted_importance_sampling(episodes, weights)], n_resamples, seed
    )
    return OriginalMetrics(
        **{f"fqe_{name}": value for name, value in zip(ENDS, fqe, strict=True)},
        **{f"wis_{name}": value for name, value in zip(ENDS, wis, strict=True)},
        ess=effective_sample_size(weights[:, 0]),
        n_episodes=hide_count(episodes.n_episodes),
        bootstrap_resamples=n_resamples,
        initial_state_max_q_mean=float(initial_values.mean()),
        wis_point_clipped50=_zero_if_undefined(weighted_importance_sampling(episodes, clipped).value),
        ess_point_clipped50=effective_sample_size(clipped[:, 0]),
        wis_nonzero_episodes=hide_count(int((weights > 0).sum())),
    )


def _intervals(
    estimators: list[SumEstimator], n_resamples: int, seed: int
) -> list[tuple[float, float, float]]:
    """Mean and 2.5 and 97.5 percentiles of the resampled values, 0 where all weights of a resample are 0.

    The published code draws one `rng.choice(episode_ids, size=n)` per resample for "FQE" and one
    `rng.integers(0, n, size=(R, n))` for WIS. Both consume the generator alike, so the same resamples serve both.
    """
    resampled: list[list[np.ndarray]] = [[] for _ in estimators]
    for counts in resample_counts(len(estimators[0].rows), n_resamples, seed):
        for values, estimator in zip(resampled, estimators, strict=True):
            values.append(estimator.resampled(counts))
    found = []
    for parts in resampled:
        values = np.nan_to_num(np.concatenate(parts), nan=0.0)
        lower, upper = np.percentile(values, [2.5, 97.5])
        found.append((float(values.mean()), float(lower), float(upper)))
    return found


def _zero_if_undefined(value: float) -> float:
    return 0.0 if np.isnan(value) else value
