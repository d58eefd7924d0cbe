"""Ventilation, SOFA, suspected infection and Sepsis-3 on made-up rows."""

from datetime import datetime, timedelta

import pytest

NOON = datetime(2150, 1, 1, 12)
COMPONENTS = ("respiration", "coagulation", "liver", "cardiovascular", "cns", "renal")


def at(hours):
    return NOON + timedelta(hours=hours)


def stay(stay_id=3, start=0, end=48):
    return {"subject_id": 1, "hadm_id": 2, "stay_id": stay_id, "intime": at(start), "outtime": at(end)}


def charted(itemid, hours, valuenum=None, value="text", stay_id=3):
    row = {"subject_id": 1, "hadm_id": 2, "stay_id": stay_id, "itemid": itemid, "charttime": at(hours)}
    return row | {"storetime": at(hours), "value": value, "valuenum": valuenum}


def heart_rates(*hours, stay_id=3):
    return [charted(220045, hour, 80, stay_id=stay_id) for hour in hours]


def lab(itemid, valuenum=None, value="text", hours=1.5, specimen_id=9):
    keys = {"subject_id": 1, "hadm_id": 2, "specimen_id": specimen_id, "itemid": itemid}
    return keys | {"charttime": at(hours), "storetime": at(hours), "valuenum": valuenum, "value": value}


def episodes(connection):
    query = "SELECT starttime, endtime, ventilation_status FROM ventilation ORDER BY starttime"
    return [
        ((a - NOON) / timedelta(hours=1), (b - NOON) / timedelta(hours=1), c)
        for a, b, c in connection.execute(query).fetchall()
    ]


def test_a_ventilator_mode_makes_an_invasive_episode_until_the_next_status(concepts_of):
    rows = [charted(223849, hour, value="CMV/ASSIST") for hour in (0, 4, 8)]
    rows += [charted(226732, 12, value="Nasal cannula"), charted(223834, 12, 2, "2")]
    rows += [charted(226732, 16, value="Nasal cannula"), charted(223834, 16, 2, "2")]
    assert episodes(concepts_of({"chartevents": rows})) == [
        (0, 12, "InvasiveVent"),
        (12, 16, "SupplementalOxygen"),
    ]


def test_a_gap_of_fourteen_hours_ends_an_episode(concepts_of):
    rows = [charted(229314, hour, value="ASV") for hour in (0, 4, 17, 31, 33)]
    assert episodes(concepts_of({"chartevents": rows})) == [(0, 17, "InvasiveVent"), (31, 33, "InvasiveVent")]


@pytest.mark.parametrize(
    ("mode", "hamilton", "device", "status"),
    [
        ("CMV/ASSIST", None, "Trach mask ", "Tracheostomy"),
        (None, None, "Endotracheal tube", "InvasiveVent"),
        (None, "NIV-ST", "Endotracheal tube", "InvasiveVent"),
        (None, "DuoPaP", None, "NonInvasiveVent"),
        (None, None, "Bipap mask ", "NonInvasiveVent"),
        (None, None, "High flow nasal cannula", "HFNC"),
        (None, None, "Venti mask ", "SupplementalOxygen"),
        (None, None, "None", "None"),
        ("Standby", None, None, None),
        ("5", None, None, None),  # the code the demo holds instead of a text
    ],
)
def test_the_strongest_support_charted_gives_the_status(concepts_of, mode, hamilton, device, status):
    rows = []
    for hour in (0, 1):
        texts = {223849: mode, 229314: hamilton, 226732: device, 223834: "4"}
        rows += [charted(item, hour, value=text) for item, text in texts.items() if text]
    expected = [(0, 1, status)] if status else []
    assert episodes(concepts_of({"chartevents": rows})) == expected


def test_a_device_counts_only_with_an_oxygen_flow(concepts_of):
    rows = [charted(226732, hour, value="Endotracheal tube") for hour in (0, 1)]
    assert episodes(concepts_of({"chartevents": rows})) == []


def hour_of(connection, hr, stay_id=3):
    query = f"SELECT {', '.join(COMPONENTS)} FROM sofa WHERE stay_id = {stay_id} AND hr = {hr}"
    return dict(zip(COMPONENTS, connection.execute(query).fetchall()[0], strict=True))


@pytest.mark.parametrize(
    ("item", "component", "steps"),
    [
        (51265, "coagulation", [(150, 0), (149, 1), (99, 2), (49, 3), (19, 4)]),
        (50885, "liver", [(1.1, 0), (1.2, 1), (2, 2), (6, 3), (12, 4)]),
        (50912, "renal", [(1.1, 0), (1.2, 1), (2, 2), (3.5, 3), (5, 4)]),
    ],
)
def test_blood_tests_score_as_vincent_1996(concepts_of, item, component, steps):
    for value, points in steps:
        rows = {"icustays": [stay()], "chartevents": heart_rates(0, 6), "labevents": [lab(item, value)]}
        assert hour_of(concepts_of(rows), 2)[component] == points


@pytest.mark.parametrize(("score", "points"), [(15, 0), (14, 1), (13, 1), (12, 2), (9, 3), (6, 3), (5, 4)])
def test_coma_scores_as_vincent_1996(concepts_of, score, points):
    parts = [charted(223901, 1.5, score - 9 if score > 9 else 1), charted(223900, 1.5, 5 if score > 9 else 1)]
    parts += [charted(220739, 1.5, 4 if score > 9 else score - 2)]
    rows = {"icustays": [stay()], "chartevents": heart_rates(0, 6) + parts}
    assert hour_of(concepts_of(rows), 2)["cns"] == points


@pytest.mark.parametrize(
    ("ratio", "ventilated", "points"),
    [
        (400, False, 0),
        (399, False, 1),
        (299, False, 2),
        (90, False, 2),
        (399, True, 1),
        (299, True, 2),
        (199, True, 3),
        (99, True, 4),
    ],
)
def test_oxygenation_scores_three_or_four_only_with_a_ventilator(concepts_of, ratio, ventilated, points):
    modes = [charted(223849, hour, value="CMV/ASSIST") for hour in (0, 3)] if ventilated else []
    gas = [lab(50821, ratio / 2), lab(50816, 50), lab(52033, value="ART.")]
    rows = {"icustays": [stay()], "chartevents": heart_rates(0, 6) + modes, "labevents": gas}
    assert hour_of(concepts_of(rows), 2)["respiration"] == points


def test_a_venous_gas_does_not_score(concepts_of):
    gas = [lab(50821, 40), lab(50816, 50), lab(52033, value="VEN.")]
    rows = {"icustays": [stay()], "chartevents": heart_rates(0, 6), "labevents": gas}
    assert hour_of(concepts_of(rows), 2)["respiration"] is None


@pytest.mark.parametrize(
    ("item", "rate", "unit", "pressure", "points"),
    [
        (None, None, None, 70, 0),
        (None, None, None, 69, 1),
        (221653, 2, "mcg/kg/min", 80, 2),
        (221662, 5, "mcg/kg/min", 80, 2),
        (221662, 5.1, "mcg/kg/min", 80, 3),
        (221906, 0.1, "mcg/kg/min", 80, 3),
        (221906, 0.10000000149011612, "mcg/kg/min", 80, 3),  # 0.1 as single precision writes it
        (221906, 0.11, "mcg/kg/min", 80, 4),
        (221289, 0.11, "mcg/kg/min", 80, 4),
        (221662, 15.1, "mcg/kg/min", 80, 4),
        (222315, 2.4, "units/hour", 80, 0),
        (221749, 3, "mcg/kg/min", 80, 0),
    ],
)
def test_circulation_scores_as_vincent_1996(concepts_of, item, rate, unit, pressure, points):
    infusion = {"subject_id": 1, "hadm_id": 2, "stay_id": 3, "itemid": item, "rate": rate, "rateuom": unit}
    infusion |= {"starttime": at(1), "endtime": at(3)}
    rows = {
        "icustays": [stay()],
        "chartevents": [*heart_rates(0, 6), charted(220052, 1.5, pressure)],
        "inputevents": [infusion] if item else [],
    }
    assert hour_of(concepts_of(rows), 2)["cardiovascular"] == points


def test_an_infusion_counts_in_the_hours_at_whose_end_it_runs(concepts_of):
    infusion = {"stay_id": 3, "itemid": 221906, "rate": 0.2, "rateuom": "mcg/kg/min"}
    infusion |= {"starttime": at(1), "endtime": at(2.5)}
    rows = {"icustays": [stay()], "chartevents": heart_rates(0, 6), "inputevents": [infusion]}
    connection = concepts_of(rows)
    assert [hour_of(connection, hr)["cardiovascular"] for hr in (1, 2, 3)] == [None, 4, None]


@pytest.mark.parametrize(("hourly", "points"), [(8, 4), (9, 3), (20, 3), (21, 0)])
def test_urine_scores_once_about_a_day_was_observed(concepts_of, hourly, points):
    urine = [{"stay_id": 3, "itemid": 226559, "charttime": at(h), "value": hourly} for h in range(1, 26)]
    rows = {"icustays": [stay()], "chartevents": heart_rates(0, 30), "outputevents": urine}
    connection = concepts_of(rows)
    assert hour_of(connection, 21)["renal"] is None
    assert hour_of(connection, 25)["renal"] == points


def test_the_hours_run_from_the_first_heart_rate_to_the_last(concepts_of):
    connection = concepts_of({"icustays": [stay()], "chartevents": heart_rates(0.25, 5.5)})
    grid = connection.execute("SELECT min(hr), max(hr), min(endtime), max(endtime) FROM icustay_hourly")
    assert grid.fetchall() == [(-24, 5, at(1 - 24), at(6))]
    assert connection.execute("SELECT min(hr), max(hr), count(*) FROM sofa").fetchall() == [(0, 5, 6)]


def test_the_worst_of_a_day_counts_even_from_before_the_stay_and_is_then_forgotten(concepts_of):
    rows = {"icustays": [stay()], "chartevents": heart_rates(0, 40), "labevents": [lab(51265, 15, hours=-3)]}
    totals = dict(concepts_of(rows).execute("SELECT hr, sofa_24hours FROM sofa").fetchall())
    assert (totals[0], totals[20], totals[21]) == (4, 4, 0)


def test_overlapping_stays_of_one_patient_keep_their_own_chartings_and_share_their_labs(concepts_of):
    rows = {
        "icustays": [stay(3), stay(4, start=2)],
        "chartevents": [
            *heart_rates(0, 10),
            *heart_rates(2, 12, stay_id=4),
            charted(220052, 3.5, 60),
            charted(220052, 3.5, 90, stay_id=4),
        ],
        "labevents": [lab(51265, 15, hours=3.5)],
    }
    connection = concepts_of(rows)
    first, second = hour_of(connection, 4), hour_of(connection, 2, stay_id=4)
    assert (first["cardiovascular"], second["cardiovascular"]) == (1, 0)
    assert (first["coagulation"], second["coagulation"]) == (4, 4)


def prescription(drug="Vancomycin", hours=0, route="IV", drug_type="MAIN"):
    row = {"subject_id": 1, "hadm_id": 2, "drug": drug, "route": route, "drug_type": drug_type}
    return row | {"starttime": at(hours), "stoptime": at(hours + 24)}


@pytest.mark.parametrize(
    ("drug", "route", "drug_type", "counts"),
    [
        ("Vancomycin", "IV", "MAIN", True),
        ("VANCOMYCIN ORAL LIQUID", "PO", "MAIN", True),
        ("Mupirocin Nasal Ointment 2%", "NU", "MAIN", True),
        ("Piperacillin-Tazobactam", "IV", "ADDITIVE", True),
        ("Vancomycin", "IV", "BASE", False),
        ("Vancomycin", None, "MAIN", False),
        ("Gentamicin 0.3% Ophth. Soln", "OU", "MAIN", False),
        ("Erythromycin 0.5% Ophth Oint", "LEFT EYE", "MAIN", False),
        ("Ciprofloxacin 0.3%", "BOTH EARS", "MAIN", False),
        ("Mupirocin Cream 2%", "NU", "MAIN", False),
        ("MetroNIDAZOLE Topical 1 % Gel", "IV", "MAIN", False),
        ("Penicillin Desensitization", "IV", "MAIN", False),
        ("Fluconazole", "IV", "MAIN", False),
    ],
)
def test_which_prescriptions_are_systemic_antibiotics(concepts_of, drug, route, drug_type, counts):
    connection = concepts_of({"prescriptions": [prescription(drug, 0, route, drug_type)]})
    assert len(connection.execute("FROM antibiotic").fetchall()) == counts


@pytest.mark.parametrize(("hours", "stay_id"), [(-0.1, None), (0, 3), (47.9, 3), (48, None)])
def test_an_antibiotic_belongs_to_the_stay_it_starts_in(concepts_of, hours, stay_id):
    connection = concepts_of({"icustays": [stay()], "prescriptions": [prescription(hours=hours)]})
    assert connection.execute("SELECT stay_id FROM antibiotic").fetchall() == [(stay_id,)]


def culture(hours=None, day=0, specimen_id=5, organism=None, org_itemid=None, specimen="BLOOD CULTURE"):
    row = {"subject_id": 1, "micro_specimen_id": specimen_id, "chartdate": datetime(2150, 1, 1 + day)}
    row |= {"charttime": None if hours is None else at(hours), "spec_type_desc": specimen}
    return row | {"org_name": organism, "org_itemid": org_itemid}


def suspicion(connection):
    columns = "suspected_infection, suspected_infection_time, culture_time, positive_culture"
    return connection.execute(f"SELECT {columns} FROM suspicion_of_infection").fetchall()[0]


@pytest.mark.parametrize(
    ("hours", "suspected_at"),
    [(-72.1, None), (-72, -72), (-1, -1), (0, None), (0.1, 0), (24, 0), (24.1, None)],
)
def test_a_culture_counts_72_hours_before_and_24_hours_after_an_antibiotic(concepts_of, hours, suspected_at):
    rows = {"prescriptions": [prescription()], "microbiologyevents": [culture(hours)]}
    expected = (0, None, None, None) if suspected_at is None else (1, at(suspected_at), at(hours), 0)
    assert suspicion(concepts_of(rows)) == expected


@pytest.mark.parametrize(("day", "suspected"), [(1, 0), (2, 1), (4, 1), (5, 1), (6, 1), (7, 0)])
def test_a_culture_with_a_date_alone_counts_by_days(concepts_of, day, suspected):
    antibiotic = prescription(hours=4 * 24)  # on 5 January
    rows = {"prescriptions": [antibiotic], "microbiologyevents": [culture(day=day - 1)]}
    assert suspicion(concepts_of(rows))[0] == suspected


def test_the_earliest_culture_before_the_antibiotic_comes_first(concepts_of):
    cultures = [culture(2, specimen_id=1), culture(-2, specimen_id=2), culture(-5, specimen_id=3)]
    connection = concepts_of({"prescriptions": [prescription()], "microbiologyevents": cultures})
    assert suspicion(connection)[1:3] == (at(-5), at(-5))


@pytest.mark.parametrize(
    ("organism", "org_itemid", "positive"),
    [("ESCHERICHIA COLI", 80002, 1), ("CANCELLED", 90760, 0), ("COMMENT", 90856, 0), (None, None, 0)],
)
def test_a_culture_is_positive_when_an_organism_grew(concepts_of, organism, org_itemid, positive):
    rows = [culture(-1, organism=organism, org_itemid=org_itemid)]
    connection = concepts_of({"prescriptions": [prescription()], "microbiologyevents": rows})
    assert suspicion(connection)[3] == positive


@pytest.mark.parametrize(("platelets_at", "sofa_time"), [(-20, 0), (3.5, 4), (23.5, 24), (24.5, None)])
def test_sepsis_is_the_first_hour_of_sofa_2_around_the_suspicion(concepts_of, platelets_at, sofa_time):
    rows = {
        "icustays": [stay()],
        "chartevents": heart_rates(0, 40),
        "labevents": [lab(51265, 60, hours=platelets_at)],
        "prescriptions": [prescription(hours=0.5)],
        "microbiologyevents": [culture(0)],
    }
    found = concepts_of(rows).execute("SELECT suspected_infection_time, sofa_time, sofa_score FROM sepsis3")
    assert found.fetchall() == ([] if sofa_time is None else [(at(0), at(sofa_time), 2)])


def test_an_antibiotic_before_the_icu_is_no_candidate(concepts_of):
    rows = {
        "icustays": [stay()],
        "chartevents": heart_rates(0, 40),
        "labevents": [lab(51265, 60)],
        "prescriptions": [prescription(hours=-1)],
        "microbiologyevents": [culture(-2)],
    }
    assert concepts_of(rows).execute("FROM sepsis3").fetchall() == []
