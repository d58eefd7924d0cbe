import numpy as np
import pytest

from sepsis_cql.common.errors import CohortError
from sepsis_cql.replay.rows.splits import assign_splits, uniform_hash
from sepsis_cql.replay.settings import SplitShares

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
