"""Policies made of several networks that differ by their seed: their disagreement is the uncertainty of a value."""

from collections.abc import Callable, Sequence

import numpy as np

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.evaluation.policies.base import FunctionPolicy, QPolicy

Values = Callable[[np.ndarray], np.ndarray]


def ensemble_moments(members: Sequence[Values], states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 25) mean and standard deviation of the members' values.

    A dose is minus infinity, with no deviation, unless as many members as for any dose of the state may give it.

    Args:
        members: states to (n, 25) values, minus infinity for a dose that is never given.
        states: (n, n_states).
    """
    values = np.stack([member(states) for member in members]).astype(np.float64)
    is_given = np.isfinite(values)
    count = is_given.sum(axis=0)
    mean = np.where(is_given, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    spread = np.sqrt((np.where(is_given, values - mean, 0.0) ** 2).sum(axis=0) / np.maximum(count - 1, 1))
    is_out = count < np.maximum(count.max(axis=1, keepdims=True), 1)
    return np.where(is_out, -np.inf, mean), np.where(is_out, 0.0, spread)


def cautious_ensemble(name: str, members: Sequence[Values], deviations: float) -> QPolicy:
    """Return the policy of the mean value less so many standard deviations between members.

    Raises:
        EvaluationError: there is one member, which cannot disagree.
    """
    _check(name, members)

    def values(states: np.ndarray) -> np.ndarray:
        mean, spread = ensemble_moments(members, states)
        return mean - deviations * spread

    return QPolicy(name, values)


def defer_to_clinicians(
    name: str, members: Sequence[Values], behavior: Values, *, epsilon: float, support_threshold: float
) -> FunctionPolicy:
    """Return the clinicians' own choice among the doses that cannot be told from the best.

    A dose is left to the clinicians if they give it often enough, and if its value plus one standard deviation between
    members comes within epsilon of the best value less one. Where members disagree the clinicians keep every dose;
    where none of the doses has support they decide alone.

    Args:
        name: of the policy.
        members: states to (n, 25) values.
        behavior: states to the clinicians' (n, 25) probabilities.
        epsilon: in units of reward.
        support_threshold: least probability of a dose.

    Raises:
        EvaluationError: there is one member, which cannot disagree.
    """
    _check(name, members)

    def probabilities(states: np.ndarray) -> np.ndarray:
        mean, spread = ensemble_moments(members, states)
        clinicians = behavior(states)
        has_support = (clinicians >= support_threshold) & np.isfinite(mean)
        best = np.where(has_support, mean - spread, -np.inf).max(axis=1, keepdims=True)
        left = clinicians * (has_support & (mean + spread >= best - epsilon))
        total = left.sum(axis=1, keepdims=True)
        return np.where(total > 0, left / np.where(total > 0, total, 1.0), clinicians)

    return FunctionPolicy(name, probabilities)


def _check(name: str, members: Sequence[Values]) -> None:
    if len(members) < 2:
        raise EvaluationError(
            f"{name}: found {len(members)} network, expected at least 2: one cannot disagree with itself. Train more "
            "seeds."
        )
