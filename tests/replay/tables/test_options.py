"""Every option of a build runs on the demo, and changes what it says it changes."""

import numpy as np
import pytest

from sepsis_cql.common.errors import CohortError
from sepsis_cql.replay.mimic.concepts import create_concepts
from sepsis_cql.replay.mimic.tables import open_mimic
from sepsis_cql.replay.report.clinical import clinical_tables
from sepsis_cql.replay.report.notes import find_notes
from sepsis_cql.replay.report.severity import DESCRIPTIONS, SCORES
from sepsis_cql.replay.rows.buffers import state_matrix
from sepsis_cql.replay.rows.make import make_rows
from sepsis_cql.replay.settings import load_build_settings


@pytest.fixture(scope="module")
def connection(mimic_demo, demo_cache):
    """The demo's tables with all that a build reads of them."""
    items = load_build_settings().items
    with open_mimic(mimic_demo, cache=demo_cache, items=items, concepts=DESCRIPTIONS) as tables:
        create_concepts(tables.connection, tables.concepts)
        yield tables.connection


@pytest.fixture(scope="module")
def rows_of(connection):
    """The rows of the demo with some settings changed."""
    return lambda **changes: make_rows(connection, load_build_settings(changes=changes))


def column(rows, name):
    return np.concatenate([buffer[name].to_numpy() for buffer in rows.buffers.values()])


def states(rows, name):
    position = rows.normalizer.names.index(name)
    return np.concatenate([state_matrix(buffer["state"])[:, position] for buffer in rows.buffers.values()])


@pytest.fixture(scope="module")
def shipped(rows_of):
    return rows_of()


@pytest.fixture(scope="module")
def changed(rows_of):
    """Options each of which changes columns of its own, all at once."""
    return rows_of(
        carry_forward="unlimited",
        vasopressor_rule="time_weighted",
        carriers="left_out",
        partial_window_urine="as_charted",
    )


SAME = [  # on the demo, which has no text and none of the items
    {"vasopressor_items": "official", "comfort_measures": "exclude", "intubated_gcs": "missing"},
    {"comfort_measures": "censor", "intubated_gcs": "last_known"},
]


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_options_for_what_the_demo_lacks_change_nothing(shipped, rows_of, changes):
    rows = rows_of(**changes)
    for name in ("stay_id", "action", "fluid_volume"):
        assert (column(rows, name) == column(shipped, name)).all()
    for name in ("gcs_total", "lactate"):
        assert np.array_equal(states(rows, name), states(shipped, name), equal_nan=True)


def test_values_carried_without_limit_are_known_more_often_and_are_older(shipped, changed):
    for name in ("peep", "lactate", "pf_ratio"):
        assert np.isnan(states(changed, name)).sum() < np.isnan(states(shipped, name)).sum()
    features = load_build_settings().features
    ages = [clinical_tables(each, features).value_ages["lactate"].high for each in (shipped, changed)]
    assert ages[0] <= 16 < ages[1]  # 12 h after a window of 4


def test_procedures_stand_in_for_charted_ventilation(shipped, rows_of):
    assert 0.3 < column(shipped, "is_ventilated").mean() < 0.7
    assert not column(rows_of(ventilation_source="charted"), "is_ventilated").any()


def test_both_dose_rules_are_stored_whichever_is_used(shipped, changed):
    for name in ("vasopressor_maximum", "vasopressor_mean"):
        assert (column(changed, name) == column(shipped, name)).all()
    assert (column(shipped, "norepinephrine_equivalent") == column(shipped, "vasopressor_maximum")).all()
    assert (column(changed, "norepinephrine_equivalent") == column(changed, "vasopressor_mean")).all()
    assert (column(changed, "vasopressor_mean") <= column(changed, "vasopressor_maximum") + 1e-6).all()


def test_carriers_can_be_left_out_of_the_action(shipped, changed):
    carriers = column(shipped, "carrier_volume")
    assert carriers.sum() > 0
    assert column(changed, "fluid_volume") + carriers == pytest.approx(
        column(shipped, "fluid_volume"), abs=0.01
    )


@pytest.mark.parametrize(
    ("changes", "episodes"),
    [({"septic_shock": True}, 20), ({"first_stay": "any"}, 47), ({"step_hours": 8}, 47)],
    ids=str,
)
def test_a_narrower_cohort_is_counted_by_its_criterion(rows_of, changes, episodes):
    try:
        rows = rows_of(**changes)
    except CohortError as error:  # a split of so few patients may be empty
        assert "septic_shock" in changes and "Split" in str(error)
    else:
        assert 0 < len(rows.stays) <= 47
        assert len(rows.stays) == episodes or "septic_shock" in changes


def test_the_demo_is_described_without_small_counts(shipped):
    tables = clinical_tables(shipped, load_build_settings().features)
    assert tables.patients["all"].episodes == 47
    assert tables.patients["all"].died is not None
    for group in tables.patients.values():
        shown = [group.died, group.female, group.age]
        assert group.episodes != "<10" or shown == [None, None, None]
    cells = [cell for rows in tables.actions.values() for row in rows for cell in row]
    assert "<10" in cells and not [cell for cell in cells if cell != "<10" and 0 < cell < 10]
    assert 0 < tables.partial_windows < 0.2


def test_patients_are_described_by_the_scores_asked_for(shipped, connection):
    features = load_build_settings().features
    tables = clinical_tables(shipped, features, connection, DESCRIPTIONS)
    for name, (column, key) in SCORES.items():
        ids = ", ".join(map(str, shipped.stays[key].to_pylist()))
        (median,) = connection.execute(
            f"select median({column}) from {name} join icustays using ({key}) where stay_id in "
            f"({', '.join(map(str, shipped.stays['stay_id'].to_pylist()))}) and {key} in ({ids})"
        ).fetchall()[0]
        assert tables.patients["all"].scores[name][1] == median
    assert sum(tables.patients["all"].kidney_injury.values()) == pytest.approx(1, abs=0.3)
    assert clinical_tables(shipped, features).patients["all"].scores == {}
    for group, patients in tables.patients.items():
        assert set(patients.scores.values()) == {None} or patients.episodes != "<10", group


def test_what_is_unknown_is_told_for_each_era_and_hidden_of_few_patients(shipped):
    tables = clinical_tables(shipped, load_build_settings().features)
    eras = set(shipped.stays["era"].to_pylist())
    assert eras <= set(tables.missing)
    unknown = np.isnan(states(shipped, "lactate")).mean()
    assert tables.missing["all"]["lactate"].unknown == pytest.approx(unknown, abs=0.1)  # steps of 10 in 50
    assert tables.missing["all"]["heart_rate"].not_measured is None
    for era in eras:
        is_shown = tables.patients[era].episodes != "<10"
        assert (tables.missing[era]["lactate"].unknown is not None) == is_shown


def test_shock_is_looked_for_as_long_as_the_setting_says(shipped, rows_of):
    assert load_build_settings().replay.shock_hours == 24
    cohorts = (rows_of(shock_hours=1), shipped, rows_of(shock_hours=72))
    counts = [sum(rows.stays["in_septic_shock"].to_pylist()) for rows in cohorts]
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_urine_of_a_window_partly_before_the_icu_is_missing_scaled_or_as_charted(shipped, changed, rows_of):
    hours = column(shipped, "window_hours")
    every = (shipped, changed, rows_of(partial_window_urine="scaled"))
    missing, charted, scaled = (states(rows, "urine_output_4h") for rows in every)
    partial = hours < 4
    assert np.isnan(missing[partial]).all() and not np.isnan(charted[partial]).all()
    assert scaled[partial] == pytest.approx(charted[partial] * 4 / hours[partial], rel=1e-4, nan_ok=True)
    assert np.array_equal(charted[~partial], scaled[~partial], equal_nan=True)
    assert np.array_equal(charted[~partial], missing[~partial], equal_nan=True)


def test_each_onset_rule_takes_its_time(rows_of):
    onsets = {}
    for rule in ("sofa_time", "suspected_infection_time", "min", "max"):
        stays = rows_of(onset_rule=rule, one_stay_per_patient=False, minimum_steps=1).stays.to_pandas()
        onsets[rule] = stays.set_index("stay_id")["onset_time"]
    both = onsets["sofa_time"].index.intersection(onsets["suspected_infection_time"].index)
    both = both.intersection(onsets["min"].index).intersection(onsets["max"].index)
    first, second = onsets["sofa_time"][both], onsets["suspected_infection_time"][both]
    assert (first < second).any() and (first > second).any()
    assert (onsets["min"][both] == np.minimum(first, second)).all()
    assert (onsets["max"][both] == np.maximum(first, second)).all()


def test_unread_vasopressors_other_units_and_missing_text_are_warned_of(connection, rows_of):
    rows_of()
    notes = list(find_notes(connection, load_build_settings()))
    assert any("no ventilator mode" in note and "225792" in note for note in notes)
    assert any("no code status" in note for note in notes)
    connection = connection.cursor()
    connection.execute(
        "create temp table inputevents as select * from main.inputevents where itemid = 221906"
    )
    connection.execute("update inputevents set itemid = 229632 where stay_id % 2 = 0")
    connection.execute("update inputevents set rateuom = 'mcg/min' where itemid = 221906")
    connection.execute("create temp table goals_of_care as select 1 as stay_id")
    official = load_build_settings(changes={"vasopressor_items": "official"})
    notes = list(find_notes(connection, official))
    assert any("that the official concept leaves out count as none" in note for note in notes)
    assert any("in another unit" in note for note in notes)
    assert not any("leaves out" in note for note in find_notes(connection, load_build_settings()))
