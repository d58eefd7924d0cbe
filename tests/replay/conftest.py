"""Fixtures of the replay tests."""

import pytest

from .made_up import MadeUpMimic, six_septic_patients


@pytest.fixture
def mimic() -> MadeUpMimic:
    """Six treated septic patients: four in training, one in validation, one in test."""
    return six_septic_patients()
