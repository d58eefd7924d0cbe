"""Train, validation and test by patient, from nothing but the patient's number and the seed."""

from hashlib import blake2b

import numpy as np

from sepsis_cql.common.errors import CohortError
from sepsis_cql.replay.settings import SplitShares

SPLITS = ("train", "validation", "test")


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
    counts = {split: sum(value == split for value in splits.values()) for split in SPLITS}
    if empty := [split for split, count in counts.items() if count == 0]:
        raise CohortError(
            f"Split {', '.join(empty)} has no patient; {len(splits)} patients fell as {counts} (expected at "
            "least 1 each). Use more patients, or another `seed` or `split_shares` in replay.yaml."
        )
    return splits


def uniform_hash(subject_id: int, seed: int) -> float:
    """A number in [0, 1) that depends on patient and seed only."""
    digest = blake2b(subject_id.to_bytes(8, "big"), key=seed.to_bytes(8, "big"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
