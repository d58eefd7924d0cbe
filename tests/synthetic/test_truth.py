"""True values by rollouts: consistent with the record of the clinicians, ordered as medicine would have it."""

import json
import shutil

import numpy as np
import pytest

from sepsis_cql.benchmarks.simulated_icu import Constant, PressureAndVolume
from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.synthetic.simulator import SimulatedICU, simulate
from sepsis_cql.synthetic.truth import open_truth

EPISODES = 1500


def always(action):
    return Constant(np.eye(25)[action])


RANDOM = Constant(np.full(25, 1 / 25))


@pytest.fixture(scope="module")
def values(truth, state_names):
    policies = {
        "clinicians": truth.behavior,
        "better": PressureAndVolume(state_names),
        "never": always(0),
        "random": RANDOM,
        **{f"always {action}": always(action) for action in range(1, 25)},
    }
    return {
        name: truth.value(policy, EPISODES if name[:6] != "always" else 300, 5, gamma=0.99)
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


def test_the_same_seed_gives_the_same_value_and_another_seed_another(truth):
    first, again, other = (truth.value(RANDOM, 300, seed, gamma=0.99).value for seed in (1, 1, 2))
    assert first == again != other


def test_the_standard_error_shrinks_with_the_square_root_of_the_rollouts(truth):
    few, many = (truth.value(RANDOM, n, 1, gamma=0.99).standard_error for n in (400, 6400))
    assert few / many == pytest.approx(4, rel=0.15)


def test_behavior_probabilities_are_the_frequencies_of_the_actions_in_the_replay(trip):
    states = np.stack(trip.steps["state"].to_numpy())
    probabilities = open_truth(open_replay(trip.replay)).behavior.probabilities(states)
    assert probabilities.shape == (len(states), 25) and np.allclose(probabilities.sum(axis=1), 1)
    assert (probabilities > 0).all()
    expected, counts = probabilities.sum(axis=0), np.bincount(trip.steps["action"], minlength=25)
    spread = np.sqrt((probabilities * (1 - probabilities)).sum(axis=0))
    assert (np.abs(counts - expected) < 4 * spread).all()


def test_states_of_rollouts_reach_the_policy_in_clinical_units_with_nan(truth, state_names):
    class Remembering(Constant):
        def probabilities(self, states):
            seen.append(states)
            return super().probabilities(states)

    seen: list[np.ndarray] = []
    truth.value(Remembering(np.eye(25)[0]), 200, 1, gamma=0.99)
    ages = seen[0][:, state_names.index("age_years")]
    assert seen[0].shape == (200, 62) and (ages >= 18).all() and ages.max() > 60
    assert np.isnan(seen[0]).any() and not np.isinf(np.concatenate(seen)).any()


def test_tables_of_patients_and_states_built_otherwise_have_no_true_value(trip, tmp_path):
    for name in ("provenance.json", "statistics.json"):
        shutil.copyfile(trip.replay / name, tmp_path / name)
    made = trip.read("provenance")
    fewer = dict(list(made["features"]["features"].items())[1:])
    others = [
        made | {"synthetic": None},
        made | {"settings": made["settings"] | {"alignment": "concurrent"}},
        made | {"features": made["features"] | {"features": fewer}},
    ]
    for provenance in others:
        (tmp_path / "provenance.json").write_text(json.dumps(provenance))
        assert open_truth(open_replay(tmp_path)) is None
    (tmp_path / "provenance.json").write_text(json.dumps(made | {"settings": made["settings"] | {"seed": 3}}))
    assert open_truth(open_replay(tmp_path)) is not None


def test_a_policy_whose_probabilities_do_not_sum_to_one_is_refused(truth):
    class Wrong:
        def probabilities(self, states):
            return np.ones((len(states), 25))

    with pytest.raises(EvaluationError, match="sum to 1"):
        truth.value(Wrong(), 10, 1, gamma=0.99)
