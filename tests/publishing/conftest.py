"""A clean export, a Hub on this machine, and no way to any other host."""

import shutil
import socket
import time
import types

import pytest
from huggingface_hub import HfApi

from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.publishing.manifest import write_manifest

from .hub_server import TOKEN, HubServer


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch):
    connect = socket.socket.connect

    def connect_here(self, address):
        assert self.family == socket.AF_UNIX or address[0] == "127.0.0.1", f"contacts {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture
def export(tmp_path):
    """A clean export, made from the package at the root of the repository."""
    directory = tmp_path / "export"
    directory.mkdir()
    for name in ("README.md", "config.json", "model.safetensors", "preprocessor_config.json", "LICENSE"):
        shutil.copyfile(ROOT / name, directory / name)
    for file in ROOT.glob("*_sepsis_cql.py"):
        shutil.copyfile(file, directory / file.name)
    shutil.copytree(ROOT / "model", directory / "model")
    (directory / "configs").mkdir()
    for file in SHIPPED.glob("*.yaml"):
        shutil.copyfile(file, directory / "configs" / file.name)
    write_manifest(directory)
    return directory


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
