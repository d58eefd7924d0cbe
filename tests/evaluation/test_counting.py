"""Values of a table of counts, which a policy of the measured cases is learned from."""

import numpy as np

from sepsis_cql.training.learners.ai_clinician import solve_counts


def test_values_of_a_table_known_on_paper():
    # cluster 0: dose 1 leads to cluster 1, dose 2 ends with 3; cluster 1: dose 4 ends with 10 or -2
    before, actions = np.array([0, 0, 1, 1]), np.array([1, 2, 4, 4])
    rewards, after = np.array([0.0, 3.0, 10.0, -2.0]), np.array([1, 0, 1, 1])
    terminals = np.array([False, True, True, True])
    q_values = solve_counts(before, actions, rewards, after, terminals, 2, min_count=1, gamma=0.5)
    assert (q_values[0, 1], q_values[0, 2], q_values[1, 4]) == (2.0, 3.0, 4.0)
    assert np.isneginf(q_values).sum() == 47


def test_a_dose_given_too_rarely_is_not_considered_but_every_cluster_has_one():
    before, actions = np.zeros(4, dtype=int), np.array([1, 1, 1, 2])
    rewards, terminals = np.array([0.0, 0.0, 0.0, 15.0]), np.ones(4, dtype=bool)
    q_values = solve_counts(before, actions, rewards, before, terminals, 1, min_count=3, gamma=0.99)
    assert q_values.argmax() == 1
    assert solve_counts(before, actions, rewards, before, terminals, 1, 9, 0.99).argmax() == 1
