"""The notebooks run from top to bottom, and what is stored in them was printed by them."""

from itertools import groupby
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = ("load_and_score", "tables_to_verdict", "published_metrics")
COMPUTES = {"tables_to_verdict"}  # the others show the shipped weights and records
# Of a process that imported the package before transformers, which then has its classes and runs no remote code.
CLASSES = "assert {type(one).__module__.split('.')[0] for one in (model, extractor, treat)} == {'sepsis_cql'}"
# No name of another notebook is known, and figures, which no cell shows, are made but not rendered.
FIRST = """%reset -f
from pathlib import Path
from matplotlib.figure import Figure
Figure.savefig = lambda figure, file, **options: Path(file).touch()
del Figure, Path
"""


def outputs(notebook):
    """Kinds of what each cell left; one text may come in any number of pieces."""
    every = [(number, one) for number, cell in enumerate(notebook.cells) for one in cell.get("outputs", [])]
    kinds = [
        (number, one.output_type, one.get("name")) for number, one in every if one.get("text", "x").strip()
    ]
    return [kind[1:] for kind, _ in groupby(kinds)]


def words(notebook):
    """What the notebook says, without how it is laid out."""
    every = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    return [word for one in every for word in (one.get("text") or one["data"]["text/plain"]).split()]


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all notebooks, so that the libraries are imported once."""
    empty = nbformat.v4.new_notebook()
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}.items():
            patch.setenv(variable, value)
        client = NotebookClient(empty, timeout=300, resources={"metadata": {"path": str(FOLDER)}})
        with client.setup_kernel():
            yield client


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_is_stored_with_its_outputs(name, kernel):
    stored = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    kinds = outputs(stored)
    assert kinds and ("stream", "stderr") not in kinds and "error" not in {kind for kind, _ in kinds}
    said = words(stored)
    stored.cells.insert(0, nbformat.v4.new_code_cell(FIRST))
    if name == "load_and_score":
        stored.cells.append(nbformat.v4.new_code_cell(CLASSES))
    kernel.nb = stored
    kernel.execute(cleanup_kc=False)
    assert outputs(stored) == kinds
    if name not in COMPUTES:
        assert words(stored) == said, (
            "the shipped study is another one: `make notebooks`, then read what they say"
        )


def test_every_notebook_is_tested_and_linked():
    assert {file.stem for file in FOLDER.glob("*.ipynb")} == set(NAMES)
    page = (FOLDER.parent / "quickstart.md").read_text()
    assert all(f"notebooks/{name}.ipynb" in page for name in NAMES)
