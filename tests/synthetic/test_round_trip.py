"""Simulate, write MIMIC-IV tables, build: the replay must be the simulator's own record."""

import numpy as np
import pandas as pd
import pytest

from sepsis_cql.replay.build import Engine, build_replay
from sepsis_cql.replay.rows.actions import ActionGrid
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import load_build_settings
from sepsis_cql.synthetic.rendering.roster import COHORT, LATER


def test_the_cohort_is_exactly_the_stays_simulated_for_it(trip):
    assert set(trip.steps["stay_id"]) == set(trip.synthetic.roster.stay_id[trip.synthetic.cohort])


def test_onset_is_found_where_the_simulator_put_it(trip):
    stays = pd.read_parquet(trip.replay / "stays.parquet").set_index("stay_id")
    roster = trip.synthetic.roster
    found = stays.loc[roster.stay_id[trip.synthetic.cohort], "onset_time"].to_numpy()
    assert (found.astype("datetime64[m]").astype(int) == roster.onset[trip.synthetic.cohort]).all()


def test_every_step_is_there_at_its_time(trip):
    roster = trip.synthetic.roster
    counts = trip.steps.groupby("stay_id").size()
    simulated = pd.Series(roster.n_steps, roster.stay_id)
    assert (counts == simulated[counts.index]).all()
    starts = trip.steps["step_start"].to_numpy().astype("datetime64[m]").astype(int)
    assert (starts == roster.start[trip.row] + 240 * trip.step).all()


def test_every_dose_is_the_dose_given(trip):
    episodes = trip.synthetic.episodes
    assert (
        trip.steps["norepinephrine_equivalent"] == trip.of_record(episodes.vasopressor).astype("f4")
    ).all()
    assert (trip.steps["fluid_volume"] == trip.of_record(episodes.fluid)).all()


def test_every_action_is_the_bin_of_the_dose_given(trip):
    grid = trip.read("statistics")["action_grid"]
    bins = ActionGrid(tuple(grid["vasopressor_edges"]), tuple(grid["fluid_edges"]))
    episodes = trip.synthetic.episodes
    expected = bins.bin_actions(trip.of_record(episodes.vasopressor), trip.of_record(episodes.fluid))
    assert (trip.steps["action"] == expected).all()
    assert len(set(expected)) > 20  # the comparison covers the grid


def test_every_reward_and_terminal_is_the_simulated_outcome(trip):
    icu = trip.synthetic.episodes.icu
    last = trip.step == icu.n_steps[trip.row] - 1
    assert (trip.steps["terminal"] == last).all()
    outcome = np.where(icu.died[trip.row], -15, 15)
    assert (trip.steps["reward_sparse"] == np.where(last, outcome, 0)).all()
    assert 0 < icu.died[trip.synthetic.cohort].mean() < 1


def test_every_state_agrees_to_1e_4_in_clinical_units(trip, state_names):
    built = np.stack(trip.steps["state"].to_numpy())
    simulated = trip.of_record(trip.synthetic.episodes.states)
    unknown = np.isnan(simulated)
    assert (np.isnan(built) == unknown).all()
    worst = pd.Series(np.where(unknown, 0, np.abs(built - simulated)).max(axis=0), state_names)
    assert worst[worst > 1e-4].empty
    assert not unknown.all(axis=0).any()  # every feature is measured somewhere


def test_stays_that_must_be_left_out_are_counted_under_their_criterion(trip):
    kind = trip.synthetic.roster.kind
    removed = {row["criterion"]: row["stays_removed"] for row in trip.read("build_report")["attrition"]}
    assert removed == {
        "icu_stays": 0,
        "sepsis3": np.isin(kind, ["no_antibiotic", "no_culture", "topical_only", "earlier"]).sum(),
        "adult": (kind == "minor").sum(),
        "first_septic_stay": (kind == LATER).sum(),
        "complete_step": (kind == "too_short").sum(),
    }
    assert {COHORT, LATER, "earlier", "minor", "too_short"} <= set(kind)


def test_the_replay_is_marked_as_synthetic_with_its_settings(trip, settings):
    provenance = trip.read("provenance")
    assert provenance["source"] == {"name": "synthetic", "version": settings.version}
    assert provenance["synthetic"]["seed"] == 7
    assert provenance["synthetic"]["settings"] == settings.model_dump(mode="json")


@pytest.mark.parametrize("wrong", [{"availability": "charttime"}, {"alignment": "concurrent"}])
def test_a_build_that_sees_what_was_not_yet_known_does_not_pass(trip, tmp_path, wrong):
    settings = load_build_settings(changes=wrong)
    engine = Engine(cache=trip.replay.with_name("cache"))
    build_replay(trip.synthetic.directory, tmp_path / "replay", settings, engine=engine)
    frames = [pd.read_parquet(tmp_path / "replay" / f"{split}.parquet") for split in SPLITS]
    steps = pd.concat(frames).sort_values(["stay_id", "step_index"], ignore_index=True)
    built = np.stack(steps["state"].to_numpy())
    simulated = trip.of_record(trip.synthetic.episodes.states)
    assert not np.allclose(built, simulated, atol=1e-4, equal_nan=True)
