"""Train, validation and test by patient: at random, from the patient's number and the seed, or by years."""

import re
from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from sepsis_cql.common.errors import CohortError
from sepsis_cql.replay.settings import SplitShares

SPLITS = ("train", "validation", "test")
PERIOD = re.compile(r"\d{4} - \d{4}")  # an `anchor_year_group`


def assign_splits(subject_ids: np.ndarray, shares: SplitShares, seed: int) -> dict[int, str]:
    """Split of each patient; adding or removing other patients never moves one.

    Args:
        subject_ids: distinct patients.
        shares: expected share of patients in each split.
        seed: another seed gives another partition.

    Raises:
        CohortError: a split gets no patient.
    """
    bounds = np.cumsum([shares.train, shares.validation])
    splits = {}
    for subject_id in subject_ids.tolist():
        splits[subject_id] = SPLITS[
            int(np.searchsorted(bounds, uniform_hash(subject_id, seed), side="right"))
        ]
    return _with_patients(splits)


def assign_splits_by_time(
    periods: Mapping[int, str | None], shares: SplitShares, seed: int
) -> dict[int, str]:
    """Split of each patient by time: the latest years are the test split, those before validation, all earlier train.

    Of only two periods the earlier one is divided at random between train and validation.

    Args:
        periods: `anchor_year_group` of each patient, as "2008 - 2010".
        shares: of train and validation where they share a period.
        seed: of that division.

    Raises:
        CohortError: a patient has no period, there is only one, or a split gets no patient.
    """
    if unknown := sum(not PERIOD.fullmatch(period or "") for period in periods.values()):
        raise CohortError(
            f"split_by is time, and {unknown} of {len(periods)} patients have no anchor_year_group (expected years as "
            "2008 - 2010 for all). Use tables that have it, or split_by: patient."
        )
    found = sorted({str(period) for period in periods.values()})
    if len(found) < 2:
        raise CohortError(
            f"split_by is time, and all {len(periods)} patients are of {', '.join(found)} (expected two or more "
            "groups of years). Use more patients, or split_by: patient."
        )
    before, latest = found[-2:]
    training = 0.0 if len(found) > 2 else shares.train / (shares.train + shares.validation)
    of_before = {
        subject_id: "train" if uniform_hash(subject_id, seed) < training else "validation"
        for subject_id, period in periods.items()
        if period == before
    }
    others = {subject_id: "test" if period == latest else "train" for subject_id, period in periods.items()}
    return _with_patients(others | of_before)


def uniform_hash(subject_id: int, seed: int) -> float:
    """A number in [0, 1) that depends on patient and seed only."""
    digest = blake2b(subject_id.to_bytes(8, "big"), key=seed.to_bytes(8, "big"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _with_patients(splits: dict[int, str]) -> dict[int, str]:
    counts = {split: sum(value == split for value in splits.values()) for split in SPLITS}
    if empty := [split for split, count in counts.items() if count == 0]:
        raise CohortError(
            f"Split {', '.join(empty)} has no patient; {len(splits)} patients fell as {counts} (expected at "
            "least 1 each). Use more patients, or another `seed` or `split_shares` in replay.yaml."
        )
    return splits
