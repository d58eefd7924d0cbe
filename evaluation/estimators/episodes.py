"""Ragged stays as padded (n_episodes, horizon) arrays: the one shape every estimator works on."""

from dataclasses import dataclass

import numpy as np

from sepsis_cql.replay.transitions import Transitions


@dataclass(frozen=True)
class Episodes:
    """What the estimators need of the scored episodes.

    After the end of an episode the ratio is 1 and reward is 0, so that cumulative weights are carried forward.

    Attributes:
        rows: (n_transitions,) episode of each transition.
        columns: (n_transitions,) step of each transition.
        rewards: (n_episodes, horizon) float64.
        live: (n_episodes, horizon) bool, false after the end.
        gamma: discount of one step.
    """

    rows: np.ndarray
    columns: np.ndarray
    rewards: np.ndarray
    live: np.ndarray
    gamma: float

    @property
    def n_episodes(self) -> int:
        """Number of stays."""
        return len(self.rewards)

    @property
    def discounts(self) -> np.ndarray:
        """(horizon,) gamma to the power of the step."""
        return self.gamma ** np.arange(self.rewards.shape[1])

    @property
    def returns(self) -> np.ndarray:
        """(n_episodes,) discounted return of each episode."""
        return self.rewards @ self.discounts

    def pad(self, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Return (n_transitions,) values as (n_episodes, horizon), with `fill` after the end of each episode."""
        padded = np.full(self.rewards.shape, fill, dtype=np.float64)
        padded[self.rows, self.columns] = values
        return padded


def pad_episodes(transitions: Transitions, gamma: float) -> Episodes:
    """Lay out transitions (sorted by stay and step) as padded arrays; column t is the step_index t."""
    rows = np.cumsum(np.r_[False, transitions.stay_id[1:] != transitions.stay_id[:-1]])
    columns = transitions.step_index
    shape = (transitions.n_episodes, int(columns.max()) + 1)
    rewards = np.zeros(shape)
    rewards[rows, columns] = transitions.rewards
    live = np.zeros(shape, dtype=bool)
    live[rows, columns] = True
    return Episodes(rows, columns, rewards, live, gamma)


def patients_of(transitions: Transitions) -> np.ndarray:
    """Return the (n_episodes,) number of each episode's patient, counted from 0 in the order of first episodes."""
    patients = transitions.subject_id[transitions.episode_starts]
    _, first, number = np.unique(patients, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def select_rows(values: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Return the (n,) entry of the given action in each row of an (n, n_actions) array."""
    return np.take_along_axis(values, actions[:, None], axis=1)[:, 0]
