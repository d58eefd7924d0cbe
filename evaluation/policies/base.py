"""The one interface under which every policy is evaluated, and the policies that need no training."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import Protocol

import numpy as np
from scipy.special import softmax

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.replay.rows.actions import N_ACTIONS

NO_TREATMENT = 0
PROBABILITY_TOLERANCE = 1e-4
ASKED_AGAIN = 1000  # states
SAME = 1e-3  # of a probability; networks round otherwise in other batches
FEW_TIES = 0.01  # share of the states in which they may decide a tie otherwise
ASKING = RLock()  # a policy that somebody hands over need not bear two questions at once


class Policy(Protocol):
    """Anything that turns states, as the replay holds them, into action probabilities."""

    @property
    def name(self) -> str:
        """What the report calls the policy."""
        ...

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """Return (n, 25) probabilities for (n, n_states) states."""
        ...


@dataclass(frozen=True)
class QPolicy:
    """The greedy policy of action values.

    Attributes:
        name: what the report calls it.
        q_values: (n, n_states) states to (n, 25) values.
    """

    name: str
    q_values: Callable[[np.ndarray], np.ndarray]

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """Return (n, 25) probabilities for (n, n_states) states.

        Raises:
            EvaluationError: a state has no value, or one that is no number.
        """
        values = self.q_values(states)
        if n := int((np.isnan(values) | np.isposinf(values)).any(axis=1).sum()):
            raise EvaluationError(
                f"{self.name}: in {n} of {len(states)} states a value is no number, expected finite ones, or minus "
                "infinity for a dose that is never given. Correct the policy."
            )
        return np.eye(N_ACTIONS)[values.argmax(axis=1)]


@dataclass(frozen=True)
class FunctionPolicy:
    """A Python function from states to probabilities (n, 25), or to actions (n,) of integer type."""

    name: str
    function: Callable[[np.ndarray], np.ndarray]

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """Return (n, 25) probabilities for (n, n_states) states.

        Raises:
            EvaluationError: an action is not one of the 25.
        """
        answer = np.asarray(self.function(states))
        if answer.shape == (len(states),) and np.issubdtype(answer.dtype, np.integer):
            if ((answer < 0) | (answer >= N_ACTIONS)).any():
                raise EvaluationError(
                    f"{self.name}: returned actions {answer.min()} to {answer.max()}, expected 0 to {N_ACTIONS - 1}."
                )
            return np.eye(N_ACTIONS)[answer]
        return answer.astype(np.float64)


def call_apart(function: Callable[[np.ndarray], np.ndarray], name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a user's function that gets states of its own to change, and whose failure is a sentence.

    Its text is not repeated: it can quote patients' values.
    """

    def call(states: np.ndarray) -> np.ndarray:
        try:
            answer = np.asarray(function(np.array(states)))
            if answer.dtype.kind not in "biufO":
                raise TypeError(f"it gives numbers of type {answer.dtype}")
            return answer.astype(np.float64) if answer.dtype.kind == "O" else answer
        except (Exception, SystemExit) as error:
            raise EvaluationError(
                f"{name}: failed on {len(states)} states ({type(error).__name__}). Expected probabilities (n, "
                f"{N_ACTIONS}), values or actions for any n states; try it on states of your own."
            ) from error

    return call


@dataclass(frozen=True)
class StatelessPolicy:
    """The same action probabilities in every state."""

    name: str
    row: np.ndarray  # (25,)

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """Return (n, 25) probabilities for (n, n_states) states."""
        return np.tile(self.row, (len(states), 1))


def baseline_policies(training_actions: np.ndarray) -> list[Policy]:
    """Return the baselines: no treatment, random, and always the action clinicians chose most often in training."""
    modal = int(np.bincount(training_actions, minlength=N_ACTIONS).argmax())
    return [
        StatelessPolicy("no treatment", np.eye(N_ACTIONS)[NO_TREATMENT]),
        StatelessPolicy("random", np.full(N_ACTIONS, 1 / N_ACTIONS)),
        StatelessPolicy(f"always the modal action ({modal})", np.eye(N_ACTIONS)[modal]),
    ]


def tilt_behavior(q_values: np.ndarray, behavior: np.ndarray, temperature: float) -> np.ndarray:
    """Return (n, 25) probabilities proportional to behavior x exp(Q / temperature): clinicians, tilted towards high Q.

    A large temperature gives the clinicians, a small one the greedy action among those clinicians give.
    """
    return softmax(np.log(behavior) + q_values / temperature, axis=1)


def mix(probabilities: np.ndarray, behavior: np.ndarray, clinician_share: float) -> np.ndarray:
    """Return (n, 25) probabilities of following clinicians in a share of the decisions, else the policy."""
    return (1 - clinician_share) * probabilities + clinician_share * behavior


def checked_probabilities(policy: Policy, states: np.ndarray) -> np.ndarray:
    """Return the policy's (n, 25) probabilities, refused unless they are probabilities.

    Raises:
        EvaluationError: wrong shape, negative, NaN, or rows that do not sum to 1.
    """
    with ASKING:
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
            "(expected non-negative numbers that sum to 1; of values or logits, take the softmax or argmax)."
        )
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def check_answers_alone(policy: Policy, states: np.ndarray, seed: int) -> None:
    """Refuse a policy whose answer to a state depends on the states it is asked about together, or on chance.

    Args:
        policy: to ask.
        states: (n, n_states) it will be scored on.
        seed: of which of them it is asked about again.

    Raises:
        EvaluationError: some answers were others when fewer states were asked about, in another order.
    """
    rows = np.random.default_rng(seed).permutation(len(states))[:ASKED_AGAIN]
    together, alone = checked_probabilities(policy, states)[rows], checked_probabilities(policy, states[rows])
    changed = (np.abs(together - alone) > SAME).any(axis=1)
    if changed.mean() > FEW_TIES:
        raise EvaluationError(
            f"{policy.name}: answered otherwise in {int(changed.sum())} of {len(rows)} states when asked about them in "
            "another order, expected a function of each state alone. Return probabilities, not draws, and use neither "
            "the order nor the number of rows."
        )
