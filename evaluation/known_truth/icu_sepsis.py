"""ICU-Sepsis as a table: exact values and fast simulation, to measure estimators against truth.

The benchmark (Choudhary et al. 2024; PyPI `icu-sepsis`) has 716 states, 25 actions, 47 features a state and the
clinicians' policy. It is Markov and tabular by construction, which real patients are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.replay.transitions import Transitions

DEATH, SURVIVAL, ABSORBED = 713, 714, 715  # terminal states of the published tables
MAX_STEPS = 400  # episodes end long before; a longer one would be a fault of the tables


@dataclass(frozen=True)
class TabularIcu:
    """A finite decision process with known clinicians.

    Attributes:
        transition: (S, A, S) probabilities; terminal states lead to themselves.
        reward: (S, A, S) reward on arrival.
        initial: (S,) probabilities of the first state.
        clinicians: (S, A) probabilities of the behavior policy.
        features: (S, d) float32 z-scores, one distinct row a state.
        terminal: (S,) bool.
        gamma: discount of one step.
    """

    transition: np.ndarray
    reward: np.ndarray
    initial: np.ndarray
    clinicians: np.ndarray
    features: np.ndarray
    terminal: np.ndarray
    gamma: float

    @cached_property
    def expected_reward(self) -> np.ndarray:
        """(S, A) mean reward."""
        return np.einsum("ijk,ijk->ij", self.transition, self.reward)

    @cached_property
    def optimal_q(self) -> np.ndarray:
        """(S, A) values of acting optimally, by policy iteration."""
        action = np.zeros(len(self.initial), dtype=np.int64)
        while True:
            q_values = self._q_of(np.eye(self.expected_reward.shape[1])[action])
            held = np.take_along_axis(q_values, action[:, None], axis=1)[:, 0]
            is_better = q_values.max(axis=1) > held + 1e-10  # a tie keeps the action, so that this ends
            if not is_better.any():
                return q_values
            action = np.where(is_better, q_values.argmax(axis=1), action)

    def true_value(self, policy: np.ndarray) -> float:
        """Return the exact value of (S, A) action probabilities from the initial states."""
        return float(self.initial @ (policy * self._q_of(policy)).sum(axis=1))

    def _q_of(self, policy: np.ndarray) -> np.ndarray:
        """(S, A) exact values of one action, then (S, A) action probabilities."""
        live = ~self.terminal
        chain = np.einsum("ij,ijk->ik", policy, self.transition)[np.ix_(live, live)]
        reward = (policy * self.expected_reward).sum(axis=1)[live]
        values = np.zeros(len(live))
        values[live] = np.linalg.solve(np.eye(live.sum()) - self.gamma * chain, reward)
        return (self.expected_reward + self.gamma * (self.transition @ values)) * live[:, None]

    def state_index(self, states: np.ndarray) -> np.ndarray:
        """Return the (n,) row of `features` that each (n, d) non-terminal state is."""
        live, column = self._lookup
        return live[np.searchsorted(self.features[live, column], states[:, column])]

    def simulate(self, n_episodes: int, seed: int) -> Transitions:
        """Draw episodes treated by the clinicians, all advanced together one step at a time."""
        rng = np.random.default_rng(seed)
        arrivals = self.transition.cumsum(axis=2)
        doses = self.clinicians.cumsum(axis=1)
        ids, state = np.arange(n_episodes), rng.choice(len(self.initial), size=n_episodes, p=self.initial)
        steps = []
        for step in range(MAX_STEPS):
            if len(ids) == 0:
                break
            action = draw(doses[state], rng)
            arrived = draw(arrivals[state, action], rng)
            reward, done = self.reward[state, action, arrived], self.terminal[arrived]
            steps.append((ids, np.full(len(ids), step), state, action, reward, arrived, done))
            ids, state = ids[~done], arrived[~done]
        stay, index, state, action, reward, arrived, done = by_stay(steps)
        return Transitions(
            states=self.features[state],
            actions=action.astype(np.int64),
            rewards=reward,
            next_states=self.features[np.where(done, state, arrived)],
            terminals=done,
            stay_id=stay,
            subject_id=stay,
            step_index=index,
            state_names=tuple(f"feature_{column}" for column in range(self.features.shape[1])),
            normalized=True,
        )

    @cached_property
    def _lookup(self) -> tuple[np.ndarray, int]:
        """Non-terminal states sorted by a feature that tells them apart, and that feature."""
        live = np.flatnonzero(~self.terminal)
        column = int(np.argmax([len(np.unique(values)) for values in self.features[live].T]))
        return live[np.argsort(self.features[live, column])], column


def load_icu_sepsis(gamma: float, terminal_reward: float) -> TabularIcu:
    """Load the installed ICU-Sepsis tables.

    Args:
        gamma: discount of one step.
        terminal_reward: plus for survival, minus for death.

    Raises:
        EvaluationError: the package is not installed.
    """
    tables = _open_tables()
    transition = np.asarray(tables.dynamics["tx_mat"], dtype=np.float64)
    centers = np.asarray(tables.state_cluster_centers)
    scale = np.where(centers.std(axis=0) > 0, centers.std(axis=0), 1.0)
    reward = np.zeros(transition.shape)
    reward[:, :, DEATH], reward[:, :, SURVIVAL] = -terminal_reward, terminal_reward
    return TabularIcu(
        transition=transition,
        reward=reward,
        initial=np.asarray(tables.dynamics["d_0"], dtype=np.float64),
        clinicians=np.asarray(tables.expert_policy, dtype=np.float64),
        features=((centers - centers.mean(axis=0)) / scale).astype(np.float32),
        terminal=np.isin(np.arange(len(transition)), (DEATH, SURVIVAL, ABSORBED)),
        gamma=gamma,
    )


@cache
def _open_tables() -> Any:
    try:
        from icu_sepsis.envs.sepsis import ICUSepsisEnv
    except ImportError as error:
        raise EvaluationError("ICU-Sepsis is not installed. Run `pip install icu-sepsis==2.0.1`.") from error
    return ICUSepsisEnv()


def draw(cumulative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (n,) one draw from each row of (n, k) cumulative probabilities."""
    threshold = rng.random(len(cumulative)) * cumulative[:, -1]
    return (cumulative <= threshold[:, None]).sum(axis=1)


def by_stay(steps: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Return columns of the steps of many stays, the first being stay and step, in their order."""
    columns = [np.concatenate(column) for column in zip(*steps, strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    return [column[order] for column in columns]
