"""An export to push, whole or in part, and a repository that holds it."""

import pytest

from sepsis_cql.publishing.guard.files import Export, read_files
from sepsis_cql.publishing.manifest import MANIFEST, dump_manifest

from ..hub_server import Repository

NAME = "someone/sepsis"
FIGURE = "model/figures/support.png"
PART = {FIGURE, "README.md", "config.json", "model.safetensors", "modeling_sepsis_cql.py", "configs/cql.yaml"}


@pytest.fixture
def whole(clean, tmp_path):
    """Everything of a clean export, which the guard reads."""
    (tmp_path / "whole").mkdir()
    Export(clean).write(tmp_path / "whole")
    return tmp_path / "whole"


@pytest.fixture
def export(clean, tmp_path, monkeypatch):
    """A part of a clean export, taken for the whole of one: for the way to the Hub a file is a file."""
    monkeypatch.setattr("sepsis_cql.publishing.hub.read_export", lambda place: Export(contents(place)))
    monkeypatch.setattr(
        "sepsis_cql.publishing.guard.files.read_export", lambda place: Export(contents(place))
    )
    files = {name: clean[name] for name in clean if name in PART or name.endswith(".pt")}
    (tmp_path / "export").mkdir()
    Export(files | {MANIFEST: dump_manifest(files)}).write(tmp_path / "export")
    return tmp_path / "export"


@pytest.fixture
def pushed(export, hub, api):
    """A repository that holds the export, tagged v1, as an earlier push left it."""
    repository = Repository(private=False)
    repository.commit("main", {".gitattributes": b"*.pt filter=lfs\n"})
    repository.tags["v1"] = repository.commit("main", contents(export))
    hub.repositories[NAME] = repository
    return repository


def contents(directory):
    return read_files(directory)[0]


def published(repository, ref="main"):
    """Files of a revision without the one the Hub makes itself."""
    files = repository.commits[repository.resolve(ref)]
    return {name: data for name, data in files.items() if name != ".gitattributes"}


def drop_a_figure(export):
    """Another export, with one figure less and another card."""
    (export / FIGURE).unlink()
    (export / "README.md").write_bytes((export / "README.md").read_bytes() + b"\nAnother evaluation.\n")
    files = contents(export)
    files.pop(MANIFEST)
    (export / MANIFEST).write_bytes(dump_manifest(files))
