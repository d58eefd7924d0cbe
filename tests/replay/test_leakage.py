"""Canaries: what is known later, or about other patients, must not move a single bit of what came before."""

import json
from copy import deepcopy
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import Features

from .made_up import MadeUpMimic, at, build, build_settings, read_steps, steps_of, subject_ids, three_splits

FEATURES = load_shipped(Features, "features.yaml")
NAMES = list(build_settings().features.state_names)


@pytest.fixture(scope="module")
def busy() -> MadeUpMimic:
    """Six septic patients with every item charted at random, filed late, early or at once."""
    random = np.random.default_rng(0)
    mimic = MadeUpMimic()
    for subject_id in three_splits():
        stay_id = mimic.septic_stay(subject_id)
        for feature in FEATURES.features.values():
            for source, itemids in feature.items.items():
                for itemid in itemids:
                    for hour in random.uniform(-3, 50, size=12):
                        chart_at_random(mimic, stay_id, source, itemid, hour, random)
        for hour in random.uniform(2, 45, size=8):
            draw_gas_filed_in_parts(mimic, stay_id, hour, random)
        treat_at_random(mimic, stay_id, random)
    return mimic


def chart_at_random(mimic, stay_id, source, itemid, hour, random):
    filed = hour + float(random.choice([0, 0.1, 2, 7, -1]))
    number = float(random.uniform(1, 6))
    if itemid in (220739, 223900, 223901):
        ett = {"value": "No Response-ETT"} if itemid == 223900 and random.random() < 0.2 else {}
        # two parts of three are charted together and filed hours apart
        mimic.chart(stay_id, itemid, round(number), max(round(hour / 4), 0) * 4 + 2, filed=filed, **ett)
    elif source == "chartevents":
        mimic.chart(stay_id, itemid, 20 + 10 * number, hour, filed=filed)
    elif source == "outputevents":
        mimic.output(stay_id, itemid, 50 * number, hour, filed=filed)
    else:
        mimic.lab(stay_id, itemid, number, hour, filed=filed, hadm_id=None)  # leaves SOFA and onset be


def draw_gas_filed_in_parts(mimic, stay_id, hour, random):
    """A gas whose specimen type, results and oxygen fraction become known at different times."""
    delays = random.choice([0.1, 3, 6], size=5)
    specimen_id = 10**6 + len(mimic.rows["labevents"])
    mimic.lab(stay_id, 52033, None, hour, filed=hour + delays[0], value="ART.", specimen_id=specimen_id)
    for itemid, number in ((50821, 90), (50818, 40), (50820, 7.3), (50802, -4)):
        value = number * float(random.uniform(0.9, 1.1))
        mimic.lab(stay_id, itemid, value, hour, filed=hour + delays[1], specimen_id=specimen_id)
    mimic.lab(stay_id, 50802, 3, hour, filed=hour + delays[2])  # a venous gas of the same time
    mimic.chart(stay_id, 223835, float(random.uniform(40, 60)), hour - 2, filed=hour - 2 + delays[3])
    mimic.chart(stay_id, 223835, float(random.uniform(60, 90)), hour - 1, filed=hour - 1 + delays[4])


def treat_at_random(mimic, stay_id, random):
    for itemid, unit in (
        (221749, "mcg/kg/min"),
        (222315, "units/hour"),
        (225828, "mL/hour"),
        (220862, "mL/hour"),
    ):
        for start in random.uniform(0, 45, size=5):
            mimic.infuse(stay_id, itemid, start, start + 3, rate=float(random.uniform(0.5, 3)), unit=unit)
    for hour in random.uniform(0, 45, size=5):
        mimic.bolus(stay_id, 225158, hour, float(random.uniform(100, 900)))


@pytest.fixture(scope="module")
def replay(busy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("busy")
    build(busy, folder)
    return folder / "replay"


@pytest.fixture(scope="module")
def by_settings(busy, tmp_path_factory):
    with steps_of(busy, tmp_path_factory.mktemp("settings")) as steps:
        yield steps


@pytest.fixture(scope="module")
def before(by_settings) -> pd.DataFrame:
    """Every step of the busy patients."""
    return by_settings()


def steps_after(mimic: MadeUpMimic, folder: Path, **changes) -> pd.DataFrame:
    with steps_of(mimic, folder) as steps:
        return steps(**changes)


def known_time(row: dict) -> datetime:
    """When an event became known: filed, or charted where it was filed before; treatment when it began."""
    if "starttime" in row:
        return row["starttime"]
    return max(row["charttime"], row["storetime"] or row["charttime"])


def change_later_events(mimic: MadeUpMimic, time: datetime) -> MadeUpMimic:
    """Drop half of what is known from `time` on and change the rest."""
    random = np.random.default_rng(1)
    changed = deepcopy(mimic)
    for table in ("chartevents", "labevents", "outputevents", "inputevents"):
        kept = []
        for row in changed.rows[table]:
            if known_time(row) < time:
                kept.append(row)
            elif random.random() < 0.5:
                for column in ("valuenum", "value", "amount", "rate"):
                    if isinstance(row.get(column), float | int):
                        row[column] = row[column] * 0.9
                kept.append(row)
        changed.rows[table] = kept
    return changed


def state_rows(steps: pd.DataFrame, until: datetime) -> pd.DataFrame:
    keys = ["stay_id", "step_index", "step_start"]
    return steps.loc[steps["step_start"] <= until, keys + NAMES].reset_index(drop=True)


@pytest.mark.parametrize("step", [2, 5, 9])
def test_events_known_after_a_decision_leave_every_earlier_state_as_it_was(busy, before, tmp_path, step):
    time = at(1 + 4 * step)
    after = steps_after(change_later_events(busy, time), tmp_path)
    earlier = state_rows(before, time)
    assert len(earlier) == 6 * (step + 1)
    pd.testing.assert_frame_equal(earlier, state_rows(after, time), check_exact=True)
    if step == 2:  # and the change is no empty gesture
        later = [frame.loc[frame["step_start"] > time, NAMES].to_numpy() for frame in (before, after)]
        assert (later[0] != later[1]).any(axis=1).all()


def test_validation_and_test_patients_leave_training_data_and_statistics_as_they_were(busy, replay, tmp_path):
    others = {*subject_ids("validation", 1), *subject_ids("test", 1)}
    changed = deepcopy(busy)
    for table in ("chartevents", "labevents", "outputevents", "inputevents"):
        for row in changed.rows[table]:
            if row["subject_id"] in others:
                for column in ("valuenum", "value", "amount", "rate"):
                    if isinstance(row.get(column), float | int):
                        row[column] = row[column] * 1.1
    for row in changed.rows["patients"]:
        if row["subject_id"] in others:
            row |= {"dod": date(2150, 1, 20), "anchor_age": 30}
    build(changed, tmp_path)
    assert statistics(replay) == statistics(tmp_path / "replay")
    assert (replay / "train.parquet").read_bytes() == (tmp_path / "replay" / "train.parquet").read_bytes()
    assert (replay / "test.parquet").read_bytes() != (tmp_path / "replay" / "test.parquet").read_bytes()


def statistics(replay: Path) -> dict:
    values = json.loads((replay / "statistics.json").read_text())
    del values["replay_fingerprint"]  # names the raw files, which did change
    return values


def test_no_patient_is_in_two_splits(demo_replay):
    patients = [set(pd.read_parquet(demo_replay / f"{split}.parquet")["subject_id"]) for split in SPLITS]
    assert all(patients)
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_a_different_dose_leaves_the_state_it_was_chosen_in_as_it_was(busy, before, tmp_path):
    stay_id = busy.rows["icustays"][0]["stay_id"]
    dosed = deepcopy(busy)
    dosed.infuse(stay_id, 221906, 13, 17, rate=3, unit="mcg/kg/min")
    dosed.bolus(stay_id, 225158, 13, 4000)
    both = (before, steps_after(dosed, tmp_path))
    rows = [steps.set_index(["stay_id", "step_index"]).loc[(stay_id, 3)] for steps in both]
    assert rows[0]["action"] != rows[1]["action"]
    pd.testing.assert_series_equal(rows[0][NAMES], rows[1][NAMES], check_exact=True)


def test_states_of_the_demo_do_not_contain_the_fluid_about_to_be_given(demo_replay):
    steps = read_steps(demo_replay)
    steps["given_before"] = steps.groupby("stay_id")["cum_iv_fluid_ml"].diff()
    steps["last_fluid"] = steps.groupby("stay_id")["fluid_volume"].shift()
    moved = steps[steps["given_before"].notna() & (steps["last_fluid"] > 0)]
    ours = np.isclose(moved["given_before"], moved["fluid_volume"], atol=0.5)
    past = np.isclose(moved["given_before"], moved["last_fluid"], atol=0.5)
    assert ours.mean() < 0.1  # 100 % in the published replay
    assert past.mean() > 0.9  # the rest took in fluid before the ICU that was charted during it


def test_the_published_alignment_does_let_the_state_see_the_dose(by_settings):
    steps = by_settings(alignment="concurrent")
    rise = steps.groupby("stay_id")["cum_iv_fluid_ml"].diff()
    given = steps["fluid_volume"].where(rise.notna())
    assert np.allclose(rise.dropna(), given.dropna(), atol=0.5)
