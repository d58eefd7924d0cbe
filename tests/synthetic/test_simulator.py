"""Physiology, clinicians and the gymnasium environment."""

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env

from sepsis_cql.common.errors import SettingsError
from sepsis_cql.common.strict import load_settings
from sepsis_cql.replay.rows.actions import ActionGrid
from sepsis_cql.synthetic.environment import SepsisEnv
from sepsis_cql.synthetic.settings import SyntheticSettings
from sepsis_cql.synthetic.simulator import DIED, SimulatedICU, simulate


@pytest.fixture(scope="module")
def episodes(settings):
    return simulate(SimulatedICU(settings, 2000, 1))


def after_onset(settings, vasopressor, fluid, steps=3):
    """Latent state of the same patients after the same constant treatment."""
    icu = SimulatedICU(settings, 2000, 3)
    for _ in range(steps):
        icu.step(np.full(2000, vasopressor), np.full(2000, fluid))
    return icu.latent


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_environment_passes_gymnasiums_own_checker():
    check_env(SepsisEnv(), skip_render_check=True)


def test_an_episode_ends_once_with_fifteen_points_won_or_lost():
    env = SepsisEnv()
    rewards = []
    for seed in range(30):
        env.reset(seed=seed)
        total, over, steps = 0.0, False, 0
        while not over:
            _, reward, over, truncated, info = env.step(np.int64(0))
            assert not truncated and (reward == 0) == (not over)
            assert info["norepinephrine_equivalent"] == info["fluid_volume"] == 0
            total, steps = total + reward, steps + 1
        assert steps <= 16
        rewards.append(total)
    assert set(rewards) == {15.0, -15.0}


def test_a_finished_episode_must_be_reset():
    with pytest.raises(gymnasium.error.ResetNeeded):
        SepsisEnv().step(np.int64(0))


def test_a_vasopressor_raises_pressure_and_fluid_fills_the_deficit(settings):
    untreated, pressor, filled = (after_onset(settings, *doses) for doses in ((0, 0), (0.2, 0), (0, 500)))
    assert pressor.pressure.mean() > untreated.pressure.mean() + 10
    assert filled.deficit.mean() < untreated.deficit.mean() - 0.3


@pytest.mark.parametrize(("doses", "organ"), [((1.0, 0), "kidney"), ((0, 2500), "lung")])
def test_too_much_of_either_harms_an_organ(settings, doses, organ):
    assert (
        getattr(after_onset(settings, *doses), organ).mean()
        > getattr(after_onset(settings, 0, 0), organ).mean() + 0.1
    )


def test_the_same_seed_gives_the_same_episodes(settings, episodes):
    again = simulate(SimulatedICU(settings, 2000, 1))
    assert np.array_equal(episodes.states, again.states, equal_nan=True)
    assert np.array_equal(episodes.icu.died, again.icu.died)


def test_sicker_patients_are_measured_more_often(episodes):
    names = episodes.icu.features.state_names
    septic = np.arange(len(episodes.states))[:, None] > episodes.icu.patients.onset_step
    states = episodes.states[septic & (np.arange(len(episodes.states))[:, None] < episodes.icu.n_steps)]
    unmeasured = states[:, names.index("lactate_missing")]
    low = states[:, names.index("map")] < 60
    assert unmeasured[low].mean() < unmeasured[~low].mean() - 0.05


def test_a_state_changes_slowly_from_step_to_step(episodes):
    names = episodes.icu.features.state_names
    both = episodes.icu.n_steps > 9
    for name in ("map", "heart_rate", "creatinine", "lactate", "weight_kg"):
        before, after = (episodes.states[step][both][:, names.index(name)] for step in (8, 9))
        known = np.isfinite(before) & np.isfinite(after)
        assert known.mean() > 0.5, name
        assert np.corrcoef(before[known], after[known])[0, 1] > 0.5, name


def test_a_dead_patient_gets_no_further_step(episodes):
    icu = episodes.icu
    dead = icu.ending == DIED
    assert icu.died[dead].all() and dead.any()
    given = episodes.fluid + episodes.vasopressor > 0
    last_given = np.where(given.any(axis=0), len(given) - given[::-1].argmax(axis=0), 0)
    assert (last_given <= icu.n_steps).all()


def test_doses_drawn_within_a_bin_fall_into_that_bin(settings, episodes):
    clinicians, states = episodes.icu.clinicians, episodes.states[0]
    grid = ActionGrid((0.06, 0.11, 0.2), (250, 450, 800))
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 25, len(states))
    doses = clinicians.doses_of(actions, states, grid, rng)
    assert (grid.bin_actions(*doses) == actions).all()


def test_a_misspelt_setting_is_named(tmp_path, settings):
    values = settings.model_dump(mode="json")
    values["outcome"]["icu_death"]["organ"] = 1
    (tmp_path / "icu.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match=r"outcome\.icu_death\.organ"):
        load_settings(SyntheticSettings, tmp_path / "icu.yaml")


@pytest.mark.parametrize("action", [99, 25, -1, 1.5, None])
def test_an_action_that_does_not_exist_is_refused(action):
    env = SepsisEnv()
    env.reset(seed=1)
    with pytest.raises(
        gymnasium.error.InvalidAction, match=r"action: found .*, expected a whole number from 0 to 24"
    ):
        env.step(action)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_makes_the_environment_by_its_name():
    env = gymnasium.make("sepsis_cql/SepsisICU-v0")
    observation, _ = env.reset(seed=3)
    expected, _ = SepsisEnv().reset(seed=3)
    np.testing.assert_array_equal(observation, expected)
    assert env.step(np.int64(24))[0].shape == (62,)


def test_several_stays_advance_together_as_each_alone():
    envs = gymnasium.make_vec("sepsis_cql/SepsisICU-v0", num_envs=2)
    observations, _ = envs.reset(seed=3)
    assert observations.shape == (2, 62)
    alone, _ = SepsisEnv().reset(seed=3)
    np.testing.assert_array_equal(observations[0], alone)
    _, rewards, *_ = envs.step(np.array([0, 6]))
    assert rewards.shape == (2,)


def test_a_stay_is_rendered_as_text():
    env = SepsisEnv(render_mode="ansi")
    env.reset(seed=3)
    assert env.render().startswith("admitted | ") and "nan" not in env.render()
    *_, doses = env.step(np.int64(6))
    assert f"fluid {doses['fluid_volume']:.0f} mL" in env.render()
    assert SepsisEnv().render() is None
    with pytest.raises(gymnasium.error.UnsupportedMode, match="found 'human'"):
        SepsisEnv(render_mode="human")
