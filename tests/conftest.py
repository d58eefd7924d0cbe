"""Builders and data shared by every test."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("reference facts not found: expected a `shared` folder beside the checkout")
    return path


@pytest.fixture(scope="session")
def mimic_demo(shared: Path) -> Path:
    path = shared / "mimic-iv-demo"
    if not path.is_dir():
        pytest.skip("MIMIC-IV demo v2.2 not found: expected `shared/mimic-iv-demo` beside the checkout")
    return path
