"""The rendered tables look like MIMIC-IV 3.1, quirks included, and are the same bytes for the same seed."""

import numpy as np
import pandas as pd
import pytest

from sepsis_cql.commands import app as cli
from sepsis_cql.common.errors import SettingsError
from sepsis_cql.synthetic.rendering.render import synthesize


@pytest.fixture(scope="module")
def read(trip):
    root = trip.synthetic.directory
    return lambda table: pd.read_csv(root / f"{table}.csv.gz", low_memory=False)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(settings, tmp_path):
    roots = [synthesize(tmp_path / str(i), 40, seed, settings).directory for i, seed in enumerate((3, 3, 4))]
    files = [sorted(path.relative_to(root) for path in root.rglob("*.*")) for root in roots]
    assert files[0] == files[1] and len(files[0]) > 13
    for name in files[0]:
        first, same, _ = ((root / name).read_bytes() for root in roots)
        assert first == same, name
    chart = "icu/chartevents.csv.gz"
    assert (roots[0] / chart).read_bytes() != (roots[2] / chart).read_bytes()


def test_headers_are_those_of_the_release(trip, mimic_demo):
    files = sorted(trip.synthetic.directory.glob("*/*.csv.gz"))
    assert len(files) == 13
    for file in files:
        official = mimic_demo / file.relative_to(trip.synthetic.directory)
        assert list(pd.read_csv(file, nrows=0)) == list(pd.read_csv(official, nrows=0)), file.name


def test_dictionaries_name_every_item_used(read):
    used = {
        "icu/d_items": ["icu/chartevents", "icu/inputevents", "icu/outputevents", "icu/procedureevents"],
        "hosp/d_labitems": ["hosp/labevents"],
    }
    for dictionary, tables in used.items():
        known = set(read(dictionary)["itemid"])
        for table in tables:
            assert set(read(table)["itemid"]) <= known


def test_temperatures_come_in_fahrenheit_and_celsius(read):
    chart = read("icu/chartevents").groupby("itemid")["valuenum"]
    assert chart.get_group(223761).between(90, 108).all()
    assert chart.get_group(223762).between(32, 42).all()


def test_oxygen_fractions_come_in_percent_and_as_fractions(read):
    chart = read("icu/chartevents")
    fractions = chart.loc[chart["itemid"] == 223835, "valuenum"]
    assert (
        fractions[fractions > 1].between(30, 100).all() and (fractions <= 1).any() and (fractions > 1).any()
    )


@pytest.mark.parametrize(("itemid", "text"), [(223900, "No Response-ETT"), (223849, "CMV/ASSIST/AutoFlow")])
def test_intubation_and_ventilation_are_told_by_text(read, itemid, text):
    chart = read("icu/chartevents")
    assert (chart.loc[chart["itemid"] == itemid, "value"] == text).any()


def test_arterial_and_cuff_pressures_of_one_minute_disagree(read):
    chart = read("icu/chartevents")
    keys = ["stay_id", "charttime"]
    line = chart[chart["itemid"] == 220052].merge(chart[chart["itemid"] == 220181], on=keys)
    assert len(line) > 100 and (line["valuenum_x"] != line["valuenum_y"]).mean() > 0.9


def test_some_laboratory_rows_have_no_admission_and_some_gases_are_venous(read):
    labs = read("hosp/labevents")
    assert 0.05 < labs["hadm_id"].isna().mean() < 0.6
    assert set(labs.loc[labs["itemid"] == 52033, "value"]) == {"ART.", "VEN."}


def test_some_results_are_filed_in_a_later_window(read):
    labs = read("hosp/labevents")
    delay = pd.to_datetime(labs["storetime"]) - pd.to_datetime(labs["charttime"])
    assert (delay > pd.Timedelta(hours=3)).any() and (delay > pd.Timedelta(0)).all()


def test_vasopressors_come_in_the_units_that_are_charted(read):
    inputs = read("icu/inputevents")
    units = {
        (itemid, unit)
        for itemid, unit in zip(inputs["itemid"], inputs["rateuom"], strict=True)
        if unit == unit
    }
    assert {(222315, "units/hour"), (221906, "mcg/kg/min"), (221749, "mcg/min"), (225828, "mL/hour")} <= units


def test_fluids_are_boluses_and_infusions_that_cross_steps(read):
    inputs = read("icu/inputevents")
    hours = (pd.to_datetime(inputs["endtime"]) - pd.to_datetime(inputs["starttime"])) / pd.Timedelta(hours=1)
    assert (hours[inputs["rate"].isna()] <= 1 / 60).all()
    assert (hours == 8).any()


def test_patients_return_and_change_units(read):
    stays = read("icu/icustays")
    assert stays["subject_id"].duplicated().any()
    assert (stays["first_careunit"] != stays["last_careunit"]).any()


def test_some_outlive_the_horizon_and_die_within_the_registry_year(trip):
    roster = trip.synthetic.roster
    known = trip.synthetic.cohort[roster.dod[trip.synthetic.cohort] > 0]
    days = roster.dod[known] - roster.onset[known] // 1440
    assert (days > 90).any() and (np.unique(days) <= 365).all()


def test_the_command_writes_tables_and_says_what_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["sepsis-cql", "synthesize", "--patients", "40", "--out", str(tmp_path / "mimic")]
    )
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    assert "teach nothing about patients" in capsys.readouterr().out
    assert (tmp_path / "mimic" / "SYNTHETIC.json").is_file()


def test_too_few_patients_are_refused(settings, tmp_path):
    with pytest.raises(SettingsError, match="at least 40"):
        synthesize(tmp_path / "mimic", 5, 1, settings)
