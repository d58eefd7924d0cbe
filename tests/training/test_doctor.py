"""The doctor names what is there and says what to fix."""

import shutil

import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.replay.interop.exports import write_original
from sepsis_cql.training import doctor

from .made_up import make_transitions


def find(facts, name):
    return next(fact for fact in facts if fact.name == name)


def test_a_usable_replay_is_counted(demo_replay, tmp_path):
    facts = doctor.examine(tmp_path, demo_replay)
    assert find(facts, "replay, train").found == "341 transitions of 31 stays"
    assert find(facts, "torch").found.startswith("2.")
    assert find(facts, "replay, train").advice == ""


def test_a_single_file_is_counted_once(tmp_path):
    write_original(make_transitions(n_stays=5), tmp_path / "replay.parquet")
    found = [fact for fact in doctor.examine(tmp_path, tmp_path / "replay.parquet") if "replay" in fact.name]
    assert [fact.name for fact in found] == ["replay, the only split"]


def test_a_missing_split_comes_with_advice(demo_replay, tmp_path):
    replay = shutil.copytree(demo_replay, tmp_path / "replay")
    (replay / "test.parquet").unlink()
    fact = find(doctor.examine(tmp_path, replay), "replay, test")
    assert fact.found == "unusable"
    assert "test.parquet: not found" in fact.advice


def test_a_library_outside_its_range_comes_with_advice(tmp_path, monkeypatch):
    lines = ["rich>=99,<100", "typer<999", "nobody-has-this>=1", "ray<1; extra == 'ray'"]
    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    facts = doctor.examine(tmp_path, None)
    assert find(facts, "rich").advice == "Expected <100,>=99: run `pip install 'rich<100,>=99'`."
    assert "pip install 'nobody-has-this>=1'" in find(facts, "nobody-has-this").advice
    assert not [fact for fact in facts if fact.name == "typer" or (fact.name == "ray" and fact.advice)]


def test_more_threads_than_cores_come_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: 1000)
    assert "OMP_NUM_THREADS=" in find(doctor.examine(tmp_path, None), "threads").advice


@pytest.mark.parametrize(("free", "code"), [(2**20, 1), (2**40, 0)])
def test_the_command_fails_where_something_needs_fixing(tmp_path, monkeypatch, free, code):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(doctor, "MEMORY_GIB", 0.0)
    result = CliRunner().invoke(app, ["doctor", "--out", str(tmp_path / "runs")])
    assert result.exit_code == code, result.output
    assert ("Free space" in result.output) == bool(code)
