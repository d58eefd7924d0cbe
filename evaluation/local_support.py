"""What was done to the patients most alike: support that does not rest on the behavior model."""

import numpy as np
from sklearn.decomposition import PCA

from sepsis_cql.evaluation.neighbors import nearest
from sepsis_cql.replay.rows.actions import N_ACTIONS

COMPONENTS = 10  # principal components that say which states are alike


def count_local_actions(
    train_inputs: np.ndarray, train_actions: np.ndarray, inputs: np.ndarray, neighbors: int
) -> np.ndarray:
    """Return (m, 25) how many of the nearest training states of each state got each action.

    Args:
        train_inputs: (n, d) normalized training states.
        train_actions: (n,) what was done there.
        inputs: (m, d) normalized states.
        neighbors: states to look at; all where there are fewer.
    """
    distinct, inverse = np.unique(inputs, axis=0, return_inverse=True)
    project = PCA(min(COMPONENTS, *train_inputs.shape), svd_solver="covariance_eigh").fit(train_inputs)
    found = nearest(
        project.transform(train_inputs), project.transform(distinct), min(neighbors, len(train_inputs))
    )
    cells = np.arange(len(distinct))[:, None] * N_ACTIONS + train_actions[found]
    counts = np.bincount(cells.ravel(), minlength=len(distinct) * N_ACTIONS).reshape(-1, N_ACTIONS)
    return counts[inverse.ravel()]
