"""Golden numbers, and one thread for every test of training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "ope" / "golden.json").read_text())
