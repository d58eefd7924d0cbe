"""What was done to the patients most alike, counted by hand."""

import numpy as np

from sepsis_cql.evaluation.local_support import count_local_actions


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
