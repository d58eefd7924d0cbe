"""The doctor names what is there and says what to fix."""

import shutil

import pytest
from typer.testing import CliRunner

from sepsis_cql.cli import app
from sepsis_cql.training import health


def find(findings, name):
    return next(finding for finding in findings if finding.name == name)


def test_a_usable_replay_is_counted(demo_replay, tmp_path):
    findings = health.examine(tmp_path, demo_replay)
    assert find(findings, "replay, train").found == "341 transitions of 31 stays"
    assert find(findings, "torch").found.startswith("2.")
    assert find(findings, "replay, train").advice == ""


def test_a_missing_split_comes_with_advice(demo_replay, tmp_path):
    replay = shutil.copytree(demo_replay, tmp_path / "replay")
    (replay / "test.parquet").unlink()
    finding = find(health.examine(tmp_path, replay), "replay, test")
    assert finding.found == "unusable"
    assert "test.parquet: not found" in finding.advice


def test_more_threads_than_cores_come_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(health.torch, "get_num_threads", lambda: 1000)
    assert "OMP_NUM_THREADS=" in find(health.examine(tmp_path, None), "threads").advice


@pytest.mark.parametrize(("free", "code"), [(2**20, 1), (2**40, 0)])
def test_the_command_fails_where_something_needs_fixing(tmp_path, monkeypatch, free, code):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(health, "MEMORY_GIB", 0.0)
    result = CliRunner().invoke(app, ["doctor", "--out", str(tmp_path / "runs")])
    assert result.exit_code == code, result.output
    assert ("Free space" in result.output) == bool(code)
