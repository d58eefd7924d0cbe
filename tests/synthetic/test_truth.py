"""True values by rollouts: consistent with the record of the clinicians, ordered as medicine would have it."""

import numpy as np
import pytest

from sepsis_cql.errors import EvaluationError
from sepsis_cql.synthetic.simulator import SimulatedICU, simulate
from sepsis_cql.synthetic.truth import (
    ConstantPolicy,
    clinician_probabilities,
    true_behavior,
    true_value,
)

EPISODES = 4000


class PressureAndVolume:
    """Vasopressor by the last mean pressure, fluid early and only while pressure or lactate ask for it."""

    def __init__(self, names):
        self.column = {name: names.index(name) for name in ("map", "lactate", "cum_iv_fluid_ml")}

    def probabilities(self, states):
        pressure, lactate, volume = (
            np.nan_to_num(states[:, column], nan=normal)
            for column, normal in zip(self.column.values(), (80, 1.5, 0), strict=True)
        )
        vasopressor = np.select([pressure >= level for level in (66, 60, 54, 48)], range(4), 4)
        needed = (volume < 4500) & ((pressure < 68) | (lactate > 2.2))
        fluid = np.where(needed, np.where(volume < 2500, 4, 3), 0)
        return np.eye(25)[5 * vasopressor + fluid]


@pytest.fixture(scope="module")
def values(record, action_grid, state_names):
    policies = {
        "clinicians": true_behavior(record, action_grid),
        "better": PressureAndVolume(state_names),
        "never": ConstantPolicy(0),
        "random": ConstantPolicy(),
        **{f"always {action}": ConstantPolicy(action) for action in range(1, 25)},
    }
    return {
        name: true_value(policy, record, action_grid, EPISODES if name[:6] != "always" else 800, 5)
        for name, policy in policies.items()
    }


def test_the_clinicians_value_is_the_mean_return_of_their_own_record(values, settings):
    icu = SimulatedICU(settings, EPISODES, 11)
    simulate(icu)
    returns = np.where(icu.died, -15, 15) * 0.99 ** (icu.n_steps - 1)
    error = np.hypot(values["clinicians"].standard_error, returns.std() / np.sqrt(EPISODES))
    assert abs(returns.mean() - values["clinicians"].value) < 4 * error


def test_a_policy_better_than_the_clinicians_exists(values):
    assert values["better"].value > values["clinicians"].value + 1.5
    assert values["better"].mortality < values["clinicians"].mortality


def test_no_constant_or_random_treatment_comes_near_it(values):
    plain = {name: value.value for name, value in values.items() if name not in ("clinicians", "better")}
    best = max(plain, key=plain.get)
    assert plain[best] < values["better"].value - 2, best


def test_both_extremes_of_treatment_do_harm(values):
    for extreme in ("never", "always 4", "always 20", "always 24"):
        assert values[extreme].value < values["clinicians"].value - 5


def test_the_same_seed_gives_the_same_value_and_another_seed_another(record, action_grid):
    first, again, other = (
        true_value(ConstantPolicy(), record, action_grid, 300, seed).value for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_standard_error_shrinks_with_the_square_root_of_the_rollouts(record, action_grid):
    few, many = (true_value(ConstantPolicy(), record, action_grid, n, 1).standard_error for n in (400, 6400))
    assert few / many == pytest.approx(4, rel=0.15)


def test_behavior_probabilities_are_the_frequencies_of_the_actions_in_the_replay(trip):
    states = np.stack(trip.steps["state"].to_numpy())
    provenance, grid = trip.read("provenance"), trip.read("statistics")["action_grid"]
    probabilities = clinician_probabilities(states, provenance["synthetic"], grid)
    assert probabilities.shape == (len(states), 25) and np.allclose(probabilities.sum(axis=1), 1)
    assert (probabilities > 0).all()
    expected, counts = probabilities.sum(axis=0), np.bincount(trip.steps["action"], minlength=25)
    spread = np.sqrt((probabilities * (1 - probabilities)).sum(axis=0))
    assert (np.abs(counts - expected) < 4 * spread).all()


def test_states_of_rollouts_reach_the_policy_in_clinical_units_with_nan(record, action_grid, state_names):
    class Remembering(ConstantPolicy):
        def probabilities(self, states):
            seen.append(states)
            return super().probabilities(states)

    seen: list[np.ndarray] = []
    true_value(Remembering(0), record, action_grid, 200, 1)
    ages = seen[0][:, state_names.index("age_years")]
    assert seen[0].shape == (200, 62) and (ages >= 18).all() and ages.max() > 60
    assert np.isnan(seen[0]).any() and not np.isinf(np.concatenate(seen)).any()


def test_real_tables_have_no_true_value(action_grid):
    with pytest.raises(EvaluationError, match="sepsis-cql synthesize"):
        true_value(ConstantPolicy(), None, action_grid, 10)


def test_a_policy_whose_probabilities_do_not_sum_to_one_is_refused(record, action_grid):
    class Wrong:
        def probabilities(self, states):
            return np.ones((len(states), 25))

    with pytest.raises(EvaluationError, match="sum to 1"):
        true_value(Wrong(), record, action_grid, 10)
