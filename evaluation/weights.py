"""How much of the evidence survives reweighting: effective sample size and its companions."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class WeightSummary:
    """Diagnostics of the episode weights rho_{T-1}.

    Attributes:
        ess: (sum w)^2 / sum w^2; n when all weights are equal, 0 when all are 0.
        ess_share: ess / n_episodes.
        mean_weight: 1 in expectation; far from 1 means that the weights miss part of the policy.
        largest_weight_share: largest weight over the sum of weights.
        zero_weight_share: share of episodes that say nothing about the policy.
        truncated_at: cap on the weights, or None.
    """

    ess: float
    ess_share: float
    mean_weight: float
    largest_weight_share: float
    zero_weight_share: float
    truncated_at: float | None


def summarise_weights(weights: np.ndarray, truncated_at: float | None = None) -> WeightSummary:
    """Summarise (n_episodes,) non-negative episode weights, already truncated where `truncated_at` is given."""
    ess = effective_sample_size(weights)
    total = float(weights.sum())
    return WeightSummary(
        ess=ess,
        ess_share=ess / len(weights),
        mean_weight=float(weights.mean()),
        largest_weight_share=float(weights.max()) / total if total > 0 else 0.0,
        zero_weight_share=float((weights == 0).mean()),
        truncated_at=truncated_at,
    )


def effective_sample_size(weights: np.ndarray) -> float:
    """(sum w)^2 / sum w^2, or 0 where every weight is 0."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0
