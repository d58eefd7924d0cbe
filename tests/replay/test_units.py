# ruff: noqa: E501  one case a line
"""One made-up patient a case: what is charted, in which unit, and what a step's state or dose becomes.

Every stay is septic from hour 1 on, so step k begins at hour 1 + 4k and its state knows the hours before.
"""

import math
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import pytest

from .made_up import MadeUpMimic, build_settings, six_septic_patients, steps_of

Events = Callable[[MadeUpMimic, int], None]
NAN = float("nan")


def chart(itemid, number, hour, **more) -> Events:
    return lambda m, stay: m.chart(stay, itemid, number, hour, **more)


def lab(itemid, number, hour, **more) -> Events:
    return lambda m, stay: m.lab(stay, itemid, number, hour, **more)


def gas(hour, filed=None, **values) -> Events:
    return lambda m, stay: m.arterial_gas(stay, hour, filed=filed, **values)


def infuse(itemid, start, end, rate, unit, **more) -> Events:
    return lambda m, stay: m.infuse(stay, itemid, start, end, rate=rate, unit=unit, **more)


def bolus(itemid, hour, amount, **more) -> Events:
    return lambda m, stay: m.bolus(stay, itemid, hour, amount, **more)


def output(itemid, volume, hour) -> Events:
    return lambda m, stay: m.output(stay, itemid, volume, hour)


MIXED = {"ordercategorydescription": "Drug Push"}
ETT = {"value": "No Response-ETT"}
CREATININE = 50912

# name: (events, step, column, value)
STATES = {
    "Fahrenheit": ([chart(223761, 98.6, 2)], 1, "temperature", 37),
    "Celsius": ([chart(223762, 37.5, 2)], 1, "temperature", 37.5),
    "Celsius in the Fahrenheit item": ([chart(223761, 38, 2)], 1, "temperature", 38),
    "Fahrenheit in the Celsius item": ([chart(223762, 100.4, 2)], 1, "temperature", 38),
    "a temperature of neither scale": ([chart(223761, 60, 2)], 1, "temperature", NAN),
    "oxygen in percent": ([chart(223835, 40, 2)], 1, "fio2_vent", 0.4),
    "oxygen as a fraction": ([chart(223835, 0.5, 2)], 1, "fio2_vent", 0.5),
    "oxygen of 5, neither": ([chart(223835, 5, 2)], 1, "fio2_vent", NAN),
    "oxygen of a blood gas": ([lab(50816, 60, 2)], 1, "fio2_vent", 0.6),
    "admission weight in pounds": ([chart(226531, 220, 2)], 1, "weight_kg", 99.79),
    "kilograms before pounds": ([chart(226531, 220, 2), chart(226512, 98, 2.5)], 1, "weight_kg", 98),
    "daily weight before admission weight": ([chart(224639, 95, 2), chart(226512, 98, 3)], 1, "weight_kg", 95),
    "a weight charted later is unknown": ([chart(226512, 98, 6)], 1, "weight_kg", NAN),
    "a weight stays in force": ([chart(226512, 98, -1)], 11, "weight_kg", 98),
    "the weight a running dose was set by": ([infuse(221906, 2, 3, 0.1, "mcg/kg/min")], 1, "weight_kg", 80),
    "arterial line before cuff": ([chart(220052, 60, 2), chart(220181, 55, 2)], 1, "map", 60),
    "lowest mean pressure of the window": ([chart(220052, 70, 2), chart(220181, 65, 3)], 1, "map", 65),
    "mean heart rate of hours 1 to 4": ([], 1, "heart_rate", 82.5),
    "heart rate over systolic pressure": ([chart(220179, 165, 3)], 1, "shock_index", 0.5),
    "arterial PaO2": ([gas(2, item_50821=80)], 1, "pao2", 80),
    "venous PO2 is not PaO2": ([lab(50821, 40, 2)], 1, "pao2", NAN),
    "venous lactate counts": ([lab(50813, 3.1, 2), lab(50813, 2.9, 3)], 1, "lactate", 3.1),
    "calculated bicarbonate where there is no serum's": ([lab(50803, 20, 2)], 1, "bicarbonate", 20),
    "serum bicarbonate before a later calculated one": ([lab(50882, 25, 2), lab(50803, 20, 3)], 1, "bicarbonate", 25),
    "base excess of an arterial gas before a venous": ([gas(2, item_50802=-5), lab(50802, -9, 3)], 1, "base_excess", -5),
    "PaO2 over charted oxygen": ([gas(3, item_50821=80), chart(223835, 40, 2)], 1, "pf_ratio", 200),
    "PaO2 over the gas's own oxygen": (
        [gas(3, item_50821=80, item_50816=80), chart(223835, 40, 2)], 1, "pf_ratio", 100,
    ),
    "oxygen charted over 4 h before": ([gas(4.5, item_50821=80), chart(223835, 40, 0)], 1, "pf_ratio", NAN),
    "coma score is the sum of its parts": (
        [chart(220739, 3, 2), chart(223900, 4, 2), chart(223901, 6, 2)], 1, "gcs_total", 13,
    ),
    "an intubated patient's coma score is 15": (
        [chart(220739, 1, 2), chart(223900, 1, 2, **ETT), chart(223901, 4, 2)], 1, "gcs_total", 15,
    ),
    "a part left out is the one before": (
        [chart(220739, 2, 4), chart(223900, 2, 4), chart(223901, 3, 4), chart(223901, 4, 6)], 2, "gcs_total", 8,
    ),
    "a part filed after the step is not in its coma score": (
        [chart(220739, 3, 3), chart(223900, 4, 3), chart(223901, 2, 3, filed=6)], 1, "gcs_total", 13,
    ),
    "nor keeps it from a later step's": (
        [chart(220739, 3, 3), chart(223900, 4, 3), chart(223901, 2, 3, filed=6)], 2, "gcs_total", 9,
    ),
    "a result filed after the step is unknown": ([lab(50912, 2, 3, filed=6)], 1, "creatinine", NAN),
    "a result is known to the step after its filing": ([lab(50912, 2, 3, filed=6)], 2, "creatinine", 2),
    "a result filed as the step begins is unknown": ([lab(50912, 2, 3, filed=5)], 1, "creatinine", NAN),
    "filed before it was drawn means known when drawn": ([lab(50912, 2, 6, filed=4)], 1, "creatinine", NAN),
    "a value is carried forward": ([lab(50912, 2, 2)], 7, "creatinine", 2),
    "but not for more than its hours": ([lab(50912, 2, 2)], 8, "creatinine", NAN),
    "a vital sign for two windows": ([chart(220277, 91, 2)], 3, "spo2", 91),
    "and not for three": ([chart(220277, 91, 2)], 4, "spo2", NAN),
    "PEEP stands while nothing says otherwise": ([chart(220339, 8, 4)], 2, "peep", 8),
    "PEEP ends with ventilation": (
        [chart(220339, 8, 4), chart(226732, None, 6, value="Nasal cannula")], 2, "peep", NAN,
    ),
    "an oxygen fraction ends with ventilation": (
        [chart(223835, 60, 4), chart(226732, None, 6, value="Nasal cannula")], 2, "fio2_vent", NAN,
    ),
    "one charted after ventilation stands": (
        [chart(226732, None, 6, value="Nasal cannula"), chart(223835, 40, 7)], 3, "fio2_vent", 0.4,
    ),
    "PaO2/FiO2 does not end with ventilation": (
        [gas(4, item_50821=120, item_50816=60), chart(226732, None, 6, value="Nasal cannula")], 2, "pf_ratio", 200,
    ),
    "ventilation that ends later is not known yet": (
        [chart(220339, 8, 4), chart(226732, None, 6, filed=9.5, value="Nasal cannula")], 2, "peep", 8,
    ),
    "emergency department results have no hadm_id": ([lab(50912, 2, -10, hadm_id=None)], 0, "creatinine", 2),
    "results over 24 h before the first step are old": ([lab(50983, 140, -23.5)], 0, "sodium", NAN),
    "the newest of a window": ([lab(50983, 140, 2), lab(50983, 133, 4)], 1, "sodium", 133),
    "an impossible value is no measurement": ([lab(50983, 1400, 4)], 1, "sodium_missing", 1),
    "measured in the window": ([lab(50983, 140, 4)], 1, "sodium_missing", 0),
    "carried forward is not measured": ([lab(50983, 140, 4)], 2, "sodium_missing", 1),
    "urine of one window": ([output(226559, 100, 2), output(226560, 50, 2)], 1, "urine_output_4h", 150),
    "irrigation going in is taken off": ([output(227489, 900, 3), output(227488, 700, 3)], 1, "urine_output_4h", 200),
    "and never makes urine negative": ([output(226559, 100, 3), output(227488, 700, 3)], 1, "urine_output_4h", 0),
    "no urine charted is not no urine": ([output(226559, 100, 2)], 2, "urine_output_4h", NAN),
    "intake up to the step": ([infuse(225158, 3, 7, 100, "mL/hour")], 1, "cum_iv_fluid_ml", 200),
    "intake before the ICU adds to the total": ([bolus(226364, 2, 3000)], 1, "cum_iv_fluid_ml", 3000),
    "a bolus as the step begins is its dose": ([bolus(225158, 5, 500)], 1, "cum_iv_fluid_ml", 0),
    "a bag change adds nothing to the total": (
        [infuse(221906, 2, 3.5, 0.2, "mcg/kg/min"), infuse(221906, 3, 4, 0.2, "mcg/kg/min")],
        1, "cum_vasopressor_dose_nor_equiv", 0.4,
    ),
    "vasopressor up to the step": (
        [infuse(221906, 3, 7, 0.2, "mcg/kg/min")], 1, "cum_vasopressor_dose_nor_equiv", 0.4,
    ),
}  # fmt: skip

DOSES = {
    "norepinephrine in mcg/kg/min": ([infuse(221906, 6, 7, 0.1, "mcg/kg/min")], 1, "vasopressor", 0.1),
    "norepinephrine in mg/kg/min": ([infuse(221906, 6, 7, 0.0001, "mg/kg/min")], 1, "vasopressor", 0.1),
    "epinephrine": ([infuse(221289, 6, 7, 0.1, "mcg/kg/min")], 1, "vasopressor", 0.1),
    "phenylephrine in mcg/min of 80 kg": ([infuse(221749, 6, 7, 80, "mcg/min")], 1, "vasopressor", 0.1),
    "phenylephrine in mcg/kg/min": ([infuse(221749, 6, 7, 1, "mcg/kg/min")], 1, "vasopressor", 0.1),
    "a dose by weight of no known weight": ([infuse(221749, 6, 7, 80, "mcg/min", patientweight=0)], 1, "vasopressor", 0),
    "dopamine": ([infuse(221662, 6, 7, 10, "mcg/kg/min")], 1, "vasopressor", 0.1),
    "vasopressin in units/hour": ([infuse(222315, 6, 7, 2.4, "units/hour")], 1, "vasopressor", 0.1),
    "vasopressin in units/min": ([infuse(222315, 6, 7, 0.04, "units/min")], 1, "vasopressor", 0.1),
    "two drugs at once": (
        [infuse(221906, 6, 8, 0.1, "mcg/kg/min"), infuse(221289, 7, 8, 0.2, "mcg/kg/min")], 1, "vasopressor", 0.3,
    ),
    "two drugs one after the other": (
        [infuse(221906, 6, 7, 0.1, "mcg/kg/min"), infuse(221289, 7, 8, 0.2, "mcg/kg/min")], 1, "vasopressor", 0.2,
    ),
    "a drug stopped as the step begins": ([infuse(221906, 3, 5, 0.1, "mcg/kg/min")], 1, "vasopressor", 0),
    "dobutamine is no vasopressor": ([infuse(221653, 6, 7, 5, "mcg/kg/min")], 1, "vasopressor", 0),
    "an infusion across the border, before it": ([infuse(225158, 3, 7, 100, "mL/hour")], 0, "fluid", 200),
    "an infusion across the border, after it": ([infuse(225158, 3, 7, 100, "mL/hour")], 1, "fluid", 200),
    "a bolus without a rate": ([bolus(225158, 6, 500)], 1, "fluid", 500),
    "a bolus as the step begins": ([bolus(225158, 5, 500)], 1, "fluid", 500),
    "a bolus a minute before the step ends": ([bolus(225158, 8.99, 500)], 1, "fluid", 500),
    "red cells": ([infuse(225168, 6, 8, 150, "mL/hour")], 1, "fluid", 300),
    "half-normal saline": ([infuse(225159, 6, 8, 100, "mL/hour")], 1, "fluid", 100),
    "hypertonic saline": ([infuse(225161, 6, 8, 50, "mL/hour")], 1, "fluid", 300),
    "albumin 25%": ([infuse(220862, 6, 7, 100, "mL/hour")], 1, "fluid", 500),
    "bicarbonate in mEq": ([bolus(220995, 6, 50, amountuom="mEq")], 1, "fluid", 333),
    "mannitol in grams": ([infuse(227531, 6, 7, 0.5, "grams/min", amount=30, amountuom="grams")], 1, "fluid", 82.5),
    "phenylephrine that the official concept leaves out": (
        [infuse(229632, 6, 7, 80, "mcg/min")], 1, "vasopressor", 0.1,
    ),
    "angiotensin II in ng/kg/min": ([infuse(229709, 6, 7, 10, "ng/kg/min")], 1, "vasopressor", 0.1),
    "a bag change is one dose": (
        [infuse(221906, 6, 7.1, 0.1, "mcg/kg/min"), infuse(221906, 7, 8, 0.1, "mcg/kg/min")], 1, "vasopressor", 0.1,
    ),
    "its mean over the step": (
        [infuse(221906, 6, 7.1, 0.2, "mcg/kg/min"), infuse(221906, 7, 8, 0.2, "mcg/kg/min")], 1, "vasopressor_mean", 0.1,
    ),
    "a carrier apart": ([bolus(225158, 6, 200, **MIXED)], 1, "carrier_volume", 200),
    "maintenance apart": (
        [infuse(225158, 6, 8, 50, "mL/hour", ordercategorydescription="Continuous IV")], 1, "maintenance_volume", 100,
    ),
    "intake elsewhere is flagged": ([bolus(226364, 6, 3000)], 1, "elsewhere_volume", 3000),
    "the first window is partly before the ICU": ([], 0, "window_hours", 1),
    "a window in the ICU": ([], 1, "window_hours", 4),
    "intake before the ICU is no dose": ([bolus(226364, 6, 3000)], 1, "fluid", 0),
}  # fmt: skip

CASES = STATES | DOSES
COLUMNS = {"vasopressor": "norepinephrine_equivalent", "fluid": "fluid_volume"}
SUBJECTS = {name: 2001 + number for number, name in enumerate(CASES)}


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    mimic = MadeUpMimic()
    for name, (events, *_) in CASES.items():
        stay_id = mimic.septic_stay(SUBJECTS[name], treated=False)
        for event in events:
            event(mimic, stay_id)
    with steps_of(mimic, tmp_path_factory.mktemp("units")) as by_settings:
        return by_settings().set_index(["subject_id", "step_index"])


@pytest.mark.parametrize("name", CASES)
def test_a_step_holds_the_charted_amount_in_its_own_unit(steps, name):
    _, step, column, value = CASES[name]
    found = steps.loc[(SUBJECTS[name], step), COLUMNS.get(column, column)]
    assert found == pytest.approx(value, rel=1e-4, nan_ok=True), (found, value)


def test_unmeasured_features_are_unknown_and_flagged(steps):
    row = steps.loc[(SUBJECTS["a bolus without a rate"], 3)]
    assert math.isnan(row["bilirubin_total"])
    assert row["bilirubin_total_missing"] == 1


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Stays for the options, and what gives their steps by the shipped settings with some changed."""
    mimic = six_septic_patients()
    urine, kidneys, coma, overlap, *_ = [row["stay_id"] for row in mimic.rows["icustays"]]
    for hour in (0.5, 5.5):
        mimic.output(urine, 226559, 60, hour)
    mimic.lab(kidneys, CREATININE, 2, 3, filed=6)
    for itemid, part in ((220739, 2), (223900, 2), (223901, 5)):
        mimic.chart(coma, itemid, part, -5)
    for itemid, part, text in ((220739, 1, {}), (223900, 1, ETT), (223901, 1, {})):
        mimic.chart(coma, itemid, part, 3, **text)  # onset is at 0 h, by the coma score
    second = mimic.stay(overlap // 10, start=2, hours=40)
    mimic.chart(second, 220052, 20, 3)
    mimic.bolus(second, 225158, 6, 999)
    stays = SimpleNamespace(urine=urine, kidneys=kidneys, coma=coma, overlap=overlap, second=second)
    with steps_of(mimic, tmp_path_factory.mktemp("options")) as by_settings:
        yield stays, cache(lambda **changes: by_settings(**changes).set_index(["stay_id", "step_index"]))


@pytest.mark.parametrize(("rule", "volume"), [("missing", NAN), ("as_charted", 60), ("scaled", 240)])
def test_urine_of_the_hour_before_the_first_step_follows_the_option(options, rule, volume):
    stays, steps = options
    state = steps(partial_window_urine=rule).loc[(stays.urine, 0)]
    assert state["urine_output_4h"] == pytest.approx(volume, nan_ok=True)
    assert state["urine_output_4h_missing"] == float(rule == "missing")


def test_sums_of_other_windows_have_their_own_name_and_bounds(options):
    stays, steps = options
    of_two_hours = steps(step_hours=2)
    assert "urine_output_4h" not in of_two_hours.columns
    assert of_two_hours.loc[(stays.urine, 3), "urine_output_2h"] == 60  # from 5 to 7 h
    urine = build_settings(step_hours=2).features.features["urine_output_2h"]
    assert (urine.clip, urine.normal, urine.valid) == ((0, 750), 120, (-2000, 2000))


def test_the_age_of_a_value_is_the_time_since_it_was_measured(options):
    stays, steps = options
    names = build_settings().features.aged_names
    ages = [row[names.index("creatinine")] for row in steps().loc[stays.kidneys, "value_age"]]
    assert ages[:10] == pytest.approx([NAN, NAN, 6, 10, 14, 18, 22, 26, 30, NAN], nan_ok=True)


def test_unlimited_values_are_carried_to_the_last_step(options):
    stays, steps = options
    assert math.isnan(steps().loc[(stays.kidneys, 11), "creatinine"])
    assert steps(carry_forward="unlimited").loc[(stays.kidneys, 11), "creatinine"] == 2


def test_a_time_weighted_dose_spreads_an_hour_over_the_step(options):
    stays, steps = options
    # norepinephrine of 0.1 from hour 6 to 13.5: 3 of 4, 4 of 4 and half an hour of the steps from 5, 9 and 13
    doses = steps(vasopressor_rule="time_weighted").loc[stays.urine, "norepinephrine_equivalent"]
    assert doses.tolist()[:5] == pytest.approx([0, 0.075, 0.1, 0.0125, 0])


@pytest.mark.parametrize(("rule", "score"), [("official", 15), ("last_known", 9), ("missing", 9)])
def test_the_coma_score_of_an_intubated_patient_follows_the_option(options, rule, score):
    stays, steps = options
    state = steps(intubated_gcs=rule).loc[(stays.coma, 1)]
    assert state["gcs_total"] == score  # missing: the one before is carried
    assert state["gcs_total_missing"] == float(rule == "missing")


def test_charttime_availability_takes_a_value_when_it_was_drawn(options):
    stays, steps = options
    assert math.isnan(steps().loc[(stays.kidneys, 1), "creatinine"])
    assert steps(availability="charttime").loc[(stays.kidneys, 1), "creatinine"] == 2


def test_overlapping_stays_keep_their_own_charts_and_doses(options):
    stays, steps = options
    assert stays.second not in steps().index
    assert math.isnan(steps().loc[(stays.overlap, 1), "map"])
    assert steps().loc[(stays.overlap, 1), "fluid_volume"] < 999
