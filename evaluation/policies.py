"""The one interface under which every policy is evaluated, and the policies that need no training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import softmax

from sepsis_cql.errors import EvaluationError

N_ACTIONS = 25
NO_TREATMENT = 0
PROBABILITY_TOLERANCE = 1e-4


class Policy(Protocol):
    """Anything that turns states, as the replay holds them, into action probabilities."""

    @property
    def name(self) -> str:
        """What the report calls the policy."""
        ...

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """(n, n_states) states to (n, 25) probabilities."""
        ...


@dataclass(frozen=True)
class QPolicy:
    """A policy read off action values: greedy, softmax of Q / temperature, or epsilon-greedy.

    Attributes:
        name: what the report calls it.
        q_values: (n, n_states) states to (n, 25) values.
        temperature: 0 is greedy; in units of reward.
        epsilon: share of decisions taken uniformly at random.
    """

    name: str
    q_values: Callable[[np.ndarray], np.ndarray]
    temperature: float = 0.0
    epsilon: float = 0.0

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """(n, n_states) states to (n, 25) probabilities."""
        q_values = self.q_values(states).astype(np.float64)
        if self.temperature > 0:
            chosen = softmax(q_values / self.temperature, axis=1)
        else:
            chosen = np.eye(N_ACTIONS)[q_values.argmax(axis=1)]
        return (1 - self.epsilon) * chosen + self.epsilon / N_ACTIONS


@dataclass(frozen=True)
class FunctionPolicy:
    """A Python function from states to probabilities (n, 25), or to actions (n,) of integer type."""

    name: str
    function: Callable[[np.ndarray], np.ndarray]

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """(n, n_states) states to (n, 25) probabilities."""
        answer = np.asarray(self.function(states))
        if answer.shape == (len(states),) and np.issubdtype(answer.dtype, np.integer):
            return np.eye(N_ACTIONS)[answer]
        return answer.astype(np.float64)


@dataclass(frozen=True)
class StatelessPolicy:
    """The same action probabilities in every state."""

    name: str
    row: np.ndarray  # (25,)

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """(n, n_states) states to (n, 25) probabilities."""
        return np.tile(self.row, (len(states), 1))


def baseline_policies(training_actions: np.ndarray) -> list[Policy]:
    """No treatment, random, and always the action clinicians chose most often in training."""
    modal = int(np.bincount(training_actions, minlength=N_ACTIONS).argmax())
    return [
        StatelessPolicy("no treatment", np.eye(N_ACTIONS)[NO_TREATMENT]),
        StatelessPolicy("random", np.full(N_ACTIONS, 1 / N_ACTIONS)),
        StatelessPolicy(f"always the modal action ({modal})", np.eye(N_ACTIONS)[modal]),
    ]


def anchor(q_values: np.ndarray, behavior: np.ndarray, temperature: float) -> np.ndarray:
    """(n, 25) probabilities proportional to behavior x exp(Q / temperature): clinicians, tilted towards high Q.

    A large temperature gives the clinicians, a small one the greedy action among those clinicians give.
    """
    return softmax(np.log(behavior) + q_values / temperature, axis=1)


def mix(probabilities: np.ndarray, behavior: np.ndarray, clinician_share: float) -> np.ndarray:
    """(n, 25) probabilities of following clinicians in a share of the decisions and the policy in the others."""
    return (1 - clinician_share) * probabilities + clinician_share * behavior


def checked_probabilities(policy: Policy, states: np.ndarray) -> np.ndarray:
    """The policy's (n, 25) probabilities, refused unless they are probabilities.

    Raises:
        EvaluationError: wrong shape, negative, NaN, or rows that do not sum to 1.
    """
    probabilities = policy.probabilities(states)
    expected = (len(states), N_ACTIONS)
    if probabilities.shape != expected:
        raise EvaluationError(f"{policy.name}: returned shape {probabilities.shape}, expected {expected}.")
    wrong = ~(np.abs(probabilities.sum(axis=1) - 1) <= PROBABILITY_TOLERANCE) | (probabilities < 0).any(
        axis=1
    )
    if wrong.any():
        raise EvaluationError(
            f"{policy.name}: {int(wrong.sum())} of {len(states)} rows are not probabilities "
            "(expected non-negative numbers that sum to 1)."
        )
    return probabilities / probabilities.sum(axis=1, keepdims=True)
