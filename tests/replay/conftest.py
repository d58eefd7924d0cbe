"""Fixtures of the replay tests."""

import pytest

from .made_up import MadeUpMimic, three_splits


@pytest.fixture
def mimic() -> MadeUpMimic:
    """Six treated septic patients: four in training, one in validation, one in test."""
    made_up = MadeUpMimic()
    for subject_id in three_splits():
        made_up.septic_stay(subject_id)
    return made_up
