import itertools

import numpy as np
import pandas as pd
import pytest

from sepsis_cql.common.errors import CohortError
from sepsis_cql.publishing.guard.build import reduce_build
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.rows.splits import SPLITS, assign_splits, assign_splits_by_time, uniform_hash
from sepsis_cql.replay.settings import SplitShares

from .made_up import build

SHARES = SplitShares(train=0.7, validation=0.15, test=0.15)
PATIENTS = np.arange(10_000_000, 10_002_000)


def test_a_patients_split_does_not_depend_on_the_other_patients():
    everyone = assign_splits(PATIENTS, SHARES, seed=42)
    half = assign_splits(PATIENTS[::2], SHARES, seed=42)
    assert half == {patient: everyone[patient] for patient in half}


def test_shares_hold_and_every_patient_has_one_split():
    splits = assign_splits(PATIENTS, SHARES, seed=42)
    shares = {split: list(splits.values()).count(split) / len(PATIENTS) for split in set(splits.values())}
    assert set(splits) == set(PATIENTS.tolist())
    assert shares == pytest.approx({"train": 0.7, "validation": 0.15, "test": 0.15}, abs=0.03)


def test_another_seed_is_another_partition():
    assert assign_splits(PATIENTS, SHARES, seed=1) != assign_splits(PATIENTS, SHARES, seed=2)


def test_hash_of_a_patient_never_changes():
    # blake2b(patient as 8 bytes, key = seed as 8 bytes): a replay built years later keeps its splits
    assert uniform_hash(10_000_032, 42) == pytest.approx(0.8028400656, abs=1e-9)


def test_a_split_without_patients_is_refused():
    with pytest.raises(CohortError, match=r"Split .*validation.* has no patient; 2 patients"):
        assign_splits(PATIENTS[:2], SHARES, seed=42)


YEARS = ("2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019")


def by_time(*years):
    return assign_splits_by_time(
        dict(zip(PATIENTS.tolist(), itertools.cycle(years), strict=False)), SHARES, 42
    )


def test_by_time_the_latest_years_are_the_test_split_and_those_before_it_validation():
    splits = by_time(*YEARS)
    assert [splits[patient] for patient in PATIENTS[:4]] == ["train", "train", "validation", "test"]
    assert splits == by_time(*YEARS) and len(splits) == len(PATIENTS)


def test_of_two_periods_the_earlier_one_is_divided_as_the_shares_say():
    splits = by_time("2014 - 2016", "2011 - 2013")
    later, earlier = ([splits[patient] for patient in PATIENTS[start::2].tolist()] for start in (0, 1))
    assert set(later) == {"test"} and "test" not in earlier
    assert earlier.count("train") / len(earlier) == pytest.approx(0.7 / 0.85, abs=0.03)


@pytest.mark.parametrize(
    ("years", "message"),
    [
        (("2008 - 2010",), "all 2000 patients are of 2008 - 2010"),
        (("2008 - 2010", None, "2014 - 2016"), "667 of 2000 patients have no anchor_year_group"),
        (("2008 - 2010", "2011", "2014 - 2016"), "667 of 2000 patients have no anchor_year_group"),
    ],
)
def test_years_that_order_nobody_are_refused(years, message):
    with pytest.raises(CohortError, match=message):
        by_time(*years)


def test_a_build_by_time_says_whose_years_are_where_and_which_stays_came_later(mimic, tmp_path):
    group = {row["subject_id"]: row for row in mimic.rows["patients"]}
    patients = list(group)
    for subject_id, years in zip(patients, (*YEARS[:2], *YEARS), strict=True):
        group[subject_id]["anchor_year_group"] = years
    group[patients[0]]["anchor_year"] -= 9  # began at least nine years after 2008: in 2017
    report = build(mimic, tmp_path, split_by="time")
    stays = pd.read_parquet(tmp_path / "replay" / "stays.parquet")
    assert stays.groupby("split")["era"].unique().map(sorted).to_dict() == {
        "train": list(YEARS[:2]), "validation": [YEARS[2]], "test": [YEARS[3]]
    }  # fmt: skip
    assert [
        note for note in report.warnings if "<10 stays of training or validation began so much later" in note
    ]
    assert report.periods == {split: [] for split in SPLITS}  # of fewer than ten patients
    known = report.model_copy(update={"periods": {"test": [YEARS[3]]}})
    published = reduce_build(known, open_replay(tmp_path / "replay").provenance)
    assert (published.settings.split_by, published.periods) == ("time", {"test": [YEARS[3]]})
