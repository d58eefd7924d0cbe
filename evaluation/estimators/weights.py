"""How much of the evidence survives reweighting: effective sample size and its companions."""

import numpy as np

from sepsis_cql.common.strict import Record


class Weights(Record):
    """Diagnostics of the untruncated episode weights rho_{T-1}.

    Attributes:
        ess: (sum w)^2 / sum w^2; n when all weights are equal, 0 when all are 0.
        ess_share: ess / n_episodes.
        mean_weight: 1 in expectation; far from 1 means that the weights miss part of the policy.
        largest_weight_share: largest weight over the sum of weights.
        zero_weight_share: share of episodes that say nothing about the policy.

    What rests on few patients is None in a published record.
    """

    ess: float
    ess_share: float | None
    mean_weight: float | None
    largest_weight_share: float | None
    zero_weight_share: float | None


def summarize_weights(weights: np.ndarray) -> Weights:
    """Summarize (n_episodes,) non-negative episode weights."""
    ess = effective_sample_size(weights)
    total = float(weights.sum())
    return Weights(
        ess=ess,
        ess_share=ess / len(weights),
        mean_weight=float(weights.mean()),
        largest_weight_share=float(weights.max()) / total if total > 0 else 0.0,
        zero_weight_share=float((weights == 0).mean()),
    )


def effective_sample_size(weights: np.ndarray) -> float:
    """Return the effective sample size (sum w)^2 / sum w^2, or 0 where every weight is 0."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0
