"""What was done to the patients most alike, counted by hand."""

import numpy as np
import pytest

from sepsis_cql.evaluation.local_support import count_local_actions
from sepsis_cql.evaluation.neighbors import nearest


def test_doses_are_counted_among_the_nearest_training_states_only():
    train = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [9.0, 9.0], [9.1, 9.0]], dtype=np.float32)
    found = count_local_actions(train, np.array([3, 3, 7, 1, 2]), train[[4, 0, 4]], neighbors=2)
    expected = np.zeros((3, 25))
    expected[[0, 0, 2, 2], [1, 2, 1, 2]] = 1
    assert (found[[0, 2]] == expected[[0, 2]]).all()
    assert found[1, 3] >= 1 and found[1].sum() == 2


def test_all_training_states_count_where_there_are_fewer_than_neighbors():
    train = np.eye(3, dtype=np.float32)
    assert count_local_actions(train, np.array([0, 0, 4]), train[:1], neighbors=100)[0, [0, 4]].tolist() == [
        2,
        1,
    ]


@pytest.mark.parametrize("kind", ["spread", "tied", "repeated", "far apart", "many inputs", "few", "no more"])
def test_the_nearest_are_those_of_the_plain_computation(kind):
    """Ties, a cluster that the sample misses and points far from the origin included."""
    rng = np.random.default_rng(3)
    n, d = {"few": (40, 4), "no more": (30, 4), "many inputs": (3000, 62)}.get(kind, (3000, 4))
    points = rng.normal(size=(n, d)).astype(np.float32)
    queries = np.concatenate([rng.normal(size=(300, d)).astype(np.float32), points[:20]])
    if kind == "tied":
        points, queries = points.round(), queries.round()
    if kind == "repeated":
        points[::2] = points[1]  # half of them at one place, of which no query needs all
    if kind == "far apart":
        points[:25] += 1000  # fewer than are looked for
        queries[:40] += 1000
    distances = np.square(points[None].astype(float) - queries[:, None]).sum(axis=2)
    order = np.argsort(distances, axis=1, kind="stable")
    assert (np.sort(nearest(points, queries, 30)) == np.sort(order[:, :30])).all()
