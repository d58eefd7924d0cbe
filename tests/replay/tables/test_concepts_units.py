"""Units and texts that the open demo does not hold, on made-up rows."""

from datetime import datetime, timedelta

import pytest

NOON = datetime(2150, 1, 1, 12)
STAY = {
    "subject_id": 1,
    "hadm_id": 2,
    "stay_id": 3,
    "intime": NOON,
    "outtime": NOON + timedelta(days=2),
}


def at(hours):
    return NOON + timedelta(hours=hours)


def charted(itemid, hours, valuenum=None, value="text", **changes):
    row = {"subject_id": 1, "hadm_id": 2, "stay_id": 3, "itemid": itemid, "charttime": at(hours)}
    return row | {"storetime": at(hours + 0.1), "value": value, "valuenum": valuenum} | changes


def infusion(itemid, rate, rateuom, start=0, end=1, patientweight=80):
    keys = {"subject_id": 1, "hadm_id": 2, "stay_id": 3, "itemid": itemid, "starttime": at(start)}
    return keys | {"endtime": at(end), "rate": rate, "rateuom": rateuom, "patientweight": patientweight}


@pytest.mark.parametrize(
    ("itemid", "rate", "rateuom", "weight", "dose"),
    [
        (221906, 0.2, "mcg/kg/min", 80, 0.2),
        (221906, 0.0002, "mg/kg/min", 80, 0.2),
        (221906, 0.0002, "mg/kg/min", None, 0.2),
        (221906, 0.2, "mg/kg/min", 1, 0.2),  # a weight of 1 marks a rate typed per kilogram already
        (221289, 0.2, "mcg/kg/min", 80, 0.2),
        (221749, 2.0, "mcg/kg/min", 80, 0.2),
        (221749, 160, "mcg/min", 80, 0.2),
        (221662, 20, "mcg/kg/min", 80, 0.2),
        (222315, 4.8, "units/hour", 80, 0.2),
        (222315, 0.08, "units/min", 80, 0.2),
    ],
)
def test_every_vasopressor_unit_becomes_norepinephrine(concepts_of, itemid, rate, rateuom, weight, dose):
    rows = [infusion(itemid, rate, rateuom, patientweight=weight)]
    result = concepts_of({"icustays": [STAY], "inputevents": rows}).execute(
        "SELECT CAST(norepinephrine_equivalent_dose AS DOUBLE) FROM norepinephrine_equivalent_dose"
    )
    assert result.fetchall() == [(pytest.approx(dose, abs=1e-4),)]


def test_vasodilating_agents_have_no_norepinephrine_equivalent(concepts_of):
    rows = [infusion(221653, 5, "mcg/kg/min"), infusion(221986, 0.5, "mcg/kg/min")]
    connection = concepts_of({"icustays": [STAY], "inputevents": rows})
    assert connection.execute("SELECT dobutamine, milrinone FROM vasoactive_agent").fetchall() == [(5, 0.5)]
    assert connection.execute("FROM norepinephrine_equivalent_dose").fetchall() == []


def test_drugs_running_together_add_up_between_every_start_and_end(concepts_of):
    rows = [
        infusion(221906, 0.1, "mcg/kg/min", 0, 4),
        infusion(222315, 2.4, "units/hour", 1, 3),
        infusion(221749, 1.0, "mcg/kg/min", 2, 3),
    ]
    result = concepts_of({"icustays": [STAY], "inputevents": rows}).execute(
        "SELECT hour(starttime) - 12, hour(endtime) - 12, CAST(norepinephrine_equivalent_dose AS DOUBLE) "
        "FROM norepinephrine_equivalent_dose ORDER BY starttime"
    )
    assert result.fetchall() == [(0, 1, 0.1), (1, 2, 0.2), (2, 3, 0.3), (3, 4, 0.1)]


def gas(itemid, valuenum=None, value="text", specimen_id=9, hours=0, stored=0.1):
    row = {"subject_id": 1, "hadm_id": 2, "specimen_id": specimen_id, "itemid": itemid}
    return row | {
        "charttime": at(hours),
        "storetime": at(hours + stored),
        "valuenum": valuenum,
        "value": value,
    }


@pytest.mark.parametrize(
    ("own", "charted_oxygen", "ratio"),
    [
        (50, None, 160),
        (0.5, None, 160),
        (5, None, None),  # neither a percentage nor a fraction
        (None, 40, 200),
        (None, 0.4, 200),
        (None, 2, None),
        (50, 40, 160),  # the oxygen of the gas itself comes first
    ],
)
def test_inspired_oxygen_is_a_fraction_or_a_percentage(concepts_of, own, charted_oxygen, ratio):
    rows = {
        "labevents": [gas(50821, 80), gas(52033, value="ART."), gas(50816, own)],
        "chartevents": [charted(223835, -1, charted_oxygen)],
    }
    result = concepts_of(rows).execute("SELECT specimen, pao2fio2ratio FROM bg").fetchall()
    assert result == [("ART.", pytest.approx(ratio) if ratio else None)]


@pytest.mark.parametrize(("hours", "oxygen"), [(-4.01, None), (-4, 60), (0, 60), (0.01, None)])
def test_charted_oxygen_counts_for_four_hours(concepts_of, hours, oxygen):
    rows = {"labevents": [gas(50821, 80)], "chartevents": [charted(223835, hours, 60)]}
    assert concepts_of(rows).execute("SELECT fio2_chartevents FROM bg").fetchall() == [(oxygen,)]


def test_the_last_oxygen_charted_before_a_gas_counts(concepts_of):
    rows = {
        "labevents": [gas(50821, 80, hours=3)],
        "chartevents": [charted(223835, 0, 100), charted(223835, 2, 50), charted(223835, 3.5, 30)],
    }
    assert concepts_of(rows).execute("SELECT fio2_chartevents FROM bg").fetchall() == [(50,)]


def test_a_gas_is_known_when_its_last_part_was_filed(concepts_of):
    rows = {
        "labevents": [gas(50821, 80, stored=0.5), gas(50820, 7.3, stored=2)],
        "chartevents": [charted(223835, -1, 50, storetime=at(3))],
    }
    connection = concepts_of(rows)
    assert connection.execute("SELECT known_time FROM bg").fetchall() == [(at(3),)]


def test_a_specimen_without_oxygen_tension_is_no_gas(concepts_of):
    assert concepts_of({"labevents": [gas(50813, 4.0)]}).execute("FROM bg").fetchall() == []


def coma(hours, motor=None, verbal=None, eyes=None, verbal_text="text"):
    parts = [(223901, motor, "text"), (223900, verbal, verbal_text), (220739, eyes, "text")]
    return [charted(item, hours, score, text) for item, score, text in parts if score is not None]


def scores(connection):
    query = "SELECT gcs, gcs_verbal, gcs_unable FROM gcs ORDER BY charttime"
    return connection.execute(query).fetchall()


def test_an_intubated_patient_is_not_called_comatose(concepts_of):
    rows = coma(0, 1, 1, 1, "No Response-ETT") + coma(1, 1, 1, 1, "No Response")
    assert scores(concepts_of({"chartevents": rows})) == [(15, 0, 1), (3, 1, 0)]


def test_after_an_intubated_charting_a_missing_verbal_score_stays_unjudged(concepts_of):
    rows = coma(0, 1, 1, 1, "No Response-ETT") + coma(1, motor=4, eyes=3)
    assert scores(concepts_of({"chartevents": rows})) == [(15, 0, 1), (15, 0, 0)]


def test_after_an_intubated_charting_other_missing_parts_get_full_marks(concepts_of):
    rows = coma(0, 1, 1, 1, "No Response-ETT") + coma(1, verbal=4)
    assert scores(concepts_of({"chartevents": rows}))[1] == (14, 4, 0)


@pytest.mark.parametrize(("hours", "total"), [(5.9, 1 + 3 + 2), (6, 6 + 3 + 4)])
def test_a_missing_part_is_carried_for_less_than_six_hours(concepts_of, hours, total):
    rows = coma(0, 1, 2, 2) + coma(hours, verbal=3)
    assert scores(concepts_of({"chartevents": rows}))[1][0] == total


def test_irrigation_is_subtracted_from_urine(concepts_of):
    keys = {"subject_id": 1, "hadm_id": 2, "stay_id": 3, "charttime": NOON, "storetime": at(0.2)}
    volumes = [(226559, 100), (227488, 500), (227489, 350), (226633, 900)]  # 226633 is no urine
    rows = [keys | {"itemid": item, "value": volume} for item, volume in volumes]
    result = concepts_of({"outputevents": rows}).execute("SELECT urineoutput, known_time FROM urine_output")
    assert result.fetchall() == [(-50, at(0.2))]


def test_irrigation_charted_as_negative_is_not_turned_around(concepts_of):
    row = {"stay_id": 3, "charttime": NOON, "itemid": 227488, "value": -500}
    result = concepts_of({"outputevents": [row]}).execute("SELECT urineoutput FROM urine_output").fetchall()
    assert result == [(-500,)]


def test_temperature_in_both_units_and_out_of_range(concepts_of):
    rows = [charted(223761, 0, 98.6), charted(223762, 1, 38.5), charted(223761, 2, 37.0)]
    result = concepts_of({"chartevents": rows}).execute(
        "SELECT CAST(temperature AS DOUBLE) FROM vitalsign ORDER BY charttime"
    )
    assert result.fetchall() == [(37.0,), (38.5,), (None,)]


def test_each_weight_holds_until_the_next(concepts_of):
    rows = [
        charted(226512, 1, 80),
        charted(224639, 10, 82.25),
        charted(226531, 2, 176),
        charted(224639, 3, 0),
    ]
    result = concepts_of({"icustays": [STAY], "chartevents": rows}).execute(
        "SELECT starttime, endtime, CAST(weight AS DOUBLE), weight_type FROM weight_durations ORDER BY 1"
    )
    assert result.fetchall() == [(at(-2), at(10), 80, "admit"), (at(10), at(50), 82.25, "daily")]


def test_a_late_first_weight_is_carried_back(concepts_of):
    rows = [charted(224639, 5, 70)]
    result = concepts_of({"icustays": [STAY], "chartevents": rows}).execute(
        "SELECT starttime, endtime, CAST(weight AS DOUBLE) FROM weight_durations ORDER BY 1"
    )
    assert result.fetchall() == [(at(-2), at(5), 70), (at(5), at(50), 70)]
