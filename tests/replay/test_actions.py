import numpy as np
import pytest

from sepsis_cql.common.errors import CohortError
from sepsis_cql.replay.rows.actions import ACTION_NAMES, ActionGrid, bin_doses, fit_action_grid

GRID = ActionGrid(vasopressor_edges=(0.05, 0.1, 0.2), fluid_edges=(50, 250, 500))


@pytest.mark.parametrize(
    ("dose", "expected"),
    [(0, 0), (1e-9, 1), (0.05, 1), (0.050001, 2), (0.1, 2), (0.15, 3), (0.2, 3), (0.21, 4), (9, 4)],
)
def test_bin_0_is_no_dose_and_an_edge_belongs_to_the_bin_below_it(dose, expected):
    assert bin_doses(np.array([dose]), GRID.vasopressor_edges).tolist() == [expected]


@pytest.mark.parametrize(
    ("vasopressor", "fluid", "action"), [(0, 0, 0), (0, 600, 4), (0.01, 0, 5), (0.3, 0, 20), (0.3, 600, 24)]
)
def test_action_is_five_times_the_vasopressor_bin_plus_the_fluid_bin(vasopressor, fluid, action):
    assert GRID.bin_actions(np.array([vasopressor]), np.array([fluid])).tolist() == [action]


def test_edges_are_quartiles_of_the_doses_given():
    grid = fit_action_grid(np.array([0, 0, 0, 1, 2, 3, 4, 5.0]), np.array([0, 10, 20, 30, 40, 50, 0, 0.0]))
    assert grid == ActionGrid((2.0, 3.0, 4.0), (20.0, 30.0, 40.0))


def test_equal_doses_leave_bins_empty_rather_than_split_them():
    doses = np.array([0, 250, 250, 250, 250, 1000.0])
    grid = fit_action_grid(doses, doses)
    assert bin_doses(doses, grid.fluid_edges).tolist() == [0, 1, 1, 1, 1, 4]


def test_a_drug_never_given_in_training_is_refused():
    with pytest.raises(CohortError, match="0 of 3 training steps have any vasopressor"):
        fit_action_grid(np.zeros(3), np.ones(3))


def test_the_25_actions_have_names_in_order():
    assert len(set(ACTION_NAMES)) == 25
    assert ACTION_NAMES[13] == "vasopressor 2, fluid 3"
