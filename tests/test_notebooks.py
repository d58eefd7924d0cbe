"""The notebooks run from top to bottom, and what is stored in them was printed by them."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = ("load_and_score", "tables_to_verdict", "published_metrics")


def outputs(notebook):
    every = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    return [(one.output_type, one.get("name")) for one in every if one.get("text", "x").strip()]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_is_stored_with_its_outputs(name, monkeypatch):
    for variable, value in {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(variable, value)
    stored = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    kinds = outputs(stored)
    assert kinds and ("stream", "stderr") not in kinds and "error" not in {kind for kind, _ in kinds}
    NotebookClient(stored, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert outputs(stored) == kinds


def test_every_notebook_is_tested_and_linked():
    assert {file.stem for file in FOLDER.glob("*.ipynb")} == set(NAMES)
    page = (FOLDER.parent / "quickstart.md").read_text()
    assert all(f"notebooks/{name}.ipynb" in page for name in NAMES)
