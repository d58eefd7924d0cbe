"""A tabular policy in the manner of the AI Clinician (Komorowski et al. 2018): clusters of states, exact values."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.replay.transitions import Transitions

N_ACTIONS = SepsisCQLConfig().n_actions
TOLERANCE = 1e-8  # of values, in units of reward


@dataclass(frozen=True)
class TabularPolicy:
    """The best dose of each cluster, among doses clinicians gave there often enough.

    Attributes:
        name: what a report calls it.
        inputs: (n, n_states) states, as the replay holds them, to (n, n_inputs) network inputs.
        clusters: assigns inputs to clusters.
        q_values: (n_clusters, 25) value of each dose; minus infinity where too few clinicians gave it.
    """

    name: str
    inputs: Callable[[np.ndarray], np.ndarray]
    clusters: MiniBatchKMeans
    q_values: np.ndarray

    def probabilities(self, states: np.ndarray) -> np.ndarray:
        """(n, n_states) states to (n, 25) probabilities: 1 for the best dose."""
        return np.eye(N_ACTIONS)[self.q_values.argmax(axis=1)[self.clusters.predict(self.inputs(states))]]


def fit_tabular_policy(
    transitions: Transitions,
    inputs: Callable[[np.ndarray], np.ndarray],
    *,
    n_clusters: int = 750,
    min_count: int = 6,
    gamma: float = 0.99,
    seed: int = 0,
) -> TabularPolicy:
    """Cluster the training states, count what followed each dose, and solve the resulting decision process.

    Args:
        transitions: the training split.
        inputs: normalises states.
        n_clusters: 750 as published; fewer where there are fewer than 4 transitions a cluster.
        min_count: a dose given less often in a cluster is not considered there (published: more than 5).
        gamma: discount of one step.
        seed: of the clustering.
    """
    n_clusters = max(1, min(n_clusters, len(transitions) // 4))
    clusters = MiniBatchKMeans(n_clusters, random_state=seed, n_init=3, batch_size=4096)
    before = clusters.fit_predict(inputs(transitions.states))
    after = clusters.predict(inputs(transitions.next_states))
    q_values = solve_counts(
        before,
        transitions.actions,
        transitions.rewards,
        after,
        transitions.terminals,
        n_clusters,
        min_count,
        gamma,
    )
    return TabularPolicy(f"tabular, {n_clusters} clusters", inputs, clusters, q_values)


def solve_counts(
    before: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    after: np.ndarray,
    terminals: np.ndarray,
    n_clusters: int,
    min_count: int,
    gamma: float,
) -> np.ndarray:
    """(n_clusters, 25) optimal values of the decision process with the observed frequencies, by value iteration.

    The most frequent dose of a cluster is always considered, so that every cluster has one.

    Args:
        before: (n,) clusters of the states.
        actions: (n,) dose ids.
        rewards: (n,).
        after: (n,) clusters of the next states.
        terminals: (n,) bool.
        n_clusters: number of clusters.
        min_count: least number of times a dose must have been given in a cluster.
        gamma: discount of one step, below 1 or with episodes that end.
    """
    pairs = before * N_ACTIONS + actions
    shape = (n_clusters, N_ACTIONS)
    counts = np.bincount(pairs, minlength=n_clusters * N_ACTIONS)
    considered = counts.reshape(shape) >= min_count
    considered[np.arange(n_clusters), counts.reshape(shape).argmax(axis=1)] = True
    values = np.zeros(n_clusters)
    while True:
        returns = rewards + gamma * values[after] * ~terminals
        sums = np.bincount(pairs, weights=returns, minlength=n_clusters * N_ACTIONS)
        q_values = np.where(considered, (sums / np.maximum(counts, 1)).reshape(shape), -np.inf)
        updated = q_values.max(axis=1)
        if np.abs(updated - values).max() < TOLERANCE:
            return q_values
        values = updated
