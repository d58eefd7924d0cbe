"""A clean export, a Hub on this machine, and no way to any other host."""

import socket
import time
import types

import pytest
from huggingface_hub import HfApi

from sepsis_cql.common.provenance import ROOT
from sepsis_cql.publishing.guard.files import Export
from sepsis_cql.publishing.manifest import MANIFEST, dump_manifest
from sepsis_cql.publishing.package import shipped_files
from sepsis_cql.tests.safety.conftest import command  # noqa: F401

from .hub_server import TOKEN, HubServer


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch):
    connect = socket.socket.connect

    def connect_here(self, address):
        assert self.family == socket.AF_UNIX or address[0] == "127.0.0.1", f"contacts {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture
def export(clean, tmp_path):
    """A clean export, made from the package at the root of the repository."""
    directory = tmp_path / "export"
    directory.mkdir()
    Export(clean).write(directory)
    return directory


@pytest.fixture(scope="session")
def clean():
    """The files of the same export, in memory."""
    files = {path: (ROOT / path).read_bytes() for path in ("README.md", "config.json", "model.safetensors")}
    files["preprocessor_config.json"] = (ROOT / "preprocessor_config.json").read_bytes()
    folder = ROOT / "model"
    files |= {f"model/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.*")}
    pages = [*(ROOT / "evaluation").glob("*.json"), ROOT / "docs" / "results.md"]
    files |= {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in pages}
    files |= shipped_files()
    return files | {MANIFEST: dump_manifest(files)}


@pytest.fixture
def hub():
    server = HubServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def api(hub, monkeypatch):
    """The real client; it repeats failed requests as always, but without waiting."""
    clock = types.SimpleNamespace(**vars(time) | {"sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    return HfApi(endpoint=hub.url, token=TOKEN)
