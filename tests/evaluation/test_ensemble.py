"""Seeds that disagree make a dose less sure, and leave the choice to the clinicians."""

import numpy as np
import pytest

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.evaluation.policies.ensemble import cautious_ensemble, defer_to_clinicians, ensemble_moments

STATES = np.zeros((3, 2))
CLINICIANS = np.zeros((3, 25))
CLINICIANS[:, :4] = [0.6, 0.3, 0.095, 0.005]


def values(*doses):
    """A network that gives the first doses these values in every state, and the others minus infinity."""
    row = np.full(25, -np.inf)
    row[: len(doses)] = doses
    return lambda states: np.tile(row, (len(states), 1))


def test_moments_are_mean_and_deviation_over_seeds_and_a_dose_most_never_give_is_never_given():
    mean, spread = ensemble_moments([values(1.0, 4.0, 9.0), values(3.0, 4.0), values(5.0, 7.0)], STATES)
    assert mean[0, :2].tolist() == [3.0, 5.0]
    assert spread[0, :2] == pytest.approx([2.0, 3**0.5])
    assert np.isneginf(mean[:, 2:]).all()


def test_the_cautious_ensemble_passes_over_a_dose_that_only_some_seeds_praise():
    members = [values(0.0, 9.0, 1.0), values(0.0, -5.0, 1.0)]
    assert cautious_ensemble("bold", members, 0.0).probabilities(STATES).argmax(axis=1).tolist() == [1, 1, 1]
    assert cautious_ensemble("shy", members, 1.0).probabilities(STATES).argmax(axis=1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("members", "epsilon", "expected"),
    [
        ([values(0, 5, 1, 9), values(0, 5, 1, 9)], 0.0, [0, 1, 0, 0]),  # dose 3 has no support
        ([values(0, 5, 4.6, 9), values(0, 5, 4.6, 9)], 0.5, [0, 0.3 / 0.395, 0.095 / 0.395, 0]),
        ([values(0, 9, 1, 9), values(0, -9, 1, 9)], 0.0, [0, 0.3 / 0.395, 0.095 / 0.395, 0]),
        ([values(5, 9, 5, 9), values(-5, -9, 5, 9)], 0.0, [0.6 / 0.995, 0.3 / 0.995, 0.095 / 0.995, 0]),
        ([lambda states: np.full((3, 25), -np.inf)] * 2, 0.0, [0.6, 0.3, 0.095, 0.005]),
    ],
    ids=["sure", "within epsilon", "one dose unsure", "all unsure", "none supported"],
)
def test_what_cannot_be_told_from_the_best_is_left_to_the_clinicians(members, epsilon, expected):
    policy = defer_to_clinicians(
        "x", members, lambda states: CLINICIANS, epsilon=epsilon, support_threshold=0.01
    )
    np.testing.assert_allclose(policy.probabilities(STATES)[:, :4], [expected] * 3)


def test_one_network_cannot_disagree_with_itself():
    with pytest.raises(EvaluationError, match="found 1 network, expected at least 2"):
        cautious_ensemble("alone", [values(1.0)], 1.0)
