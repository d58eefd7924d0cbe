"""A replay's fingerprint changes with whatever could change its rows, and with nothing else."""

import shutil

import pytest
import yaml

from sepsis_cql.common.provenance import ROOT, code_sha256
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.replay.build import ROOMS_OF_ROWS, replay_fingerprint
from sepsis_cql.replay.settings import load_build_settings

from .made_up import build


def changed_file(tmp_path, name, change):
    values = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    change(values)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    return load_build_settings(**{name: tmp_path / "mine.yaml"})


CHANGES = {
    "a feature's bounds": ("features", lambda v: v["features"]["lactate"].update(clip=[0, 19])),
    "a feature's items": (
        "features",
        lambda v: v["features"]["lactate"]["items"].update(labevents=[50813, 52442]),
    ),
    "a feature less": ("features", lambda v: v["features"].pop("albumin")),
    "a fluid's factor": ("fluids", lambda v: next(iter(v["resuscitation"].values())).update(factor=0.9)),
    "a fluid less": ("fluids", lambda v: v["resuscitation"].popitem()),
    "a setting": ("replay", lambda v: v.update(mortality_days=30)),
}


@pytest.mark.parametrize("what", sorted(CHANGES))
def test_another_setting_feature_or_fluid_is_another_replay(tmp_path, what):
    settings = changed_file(tmp_path, *CHANGES[what])
    assert replay_fingerprint("0", settings) != replay_fingerprint("0", load_build_settings())


def test_other_tables_are_another_replay():
    settings = load_build_settings()
    assert replay_fingerprint("0", settings) != replay_fingerprint("1", settings)


def fingerprint_of_copy(monkeypatch, copy):
    monkeypatch.setattr("sepsis_cql.common.provenance.ROOT", copy)
    return code_sha256(*(copy / room.relative_to(ROOT) for room in ROOMS_OF_ROWS))


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("replay/rows/cohort.py", True),
        ("replay/rows/make.py", True),
        ("replay/mimic/tables.py", True),
        ("replay/sql/concepts/sofa.sql", True),
        ("replay/sql/trajectories/doses.sql", True),
        ("replay/settings.py", True),
        ("replay/report/page.py", False),
        ("replay/report/counts.py", False),
        ("replay/interop/huggingface.py", False),
        ("replay/directory.py", False),
        ("replay/transitions.py", False),
        ("replay/build.py", False),
    ],
)
def test_only_code_that_makes_rows_counts(tmp_path, monkeypatch, file, counts):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "replay", copy / "replay", ignore=shutil.ignore_patterns("__pycache__"))
    before = fingerprint_of_copy(monkeypatch, copy)
    text = (copy / file).read_text()
    (copy / file).write_text(text + ("-- a comment\n" if file.endswith(".sql") else "# a comment\n"))
    assert (fingerprint_of_copy(monkeypatch, copy) != before) is counts


def test_a_stray_file_in_the_working_directory_changes_nothing(mimic, tmp_path, monkeypatch):
    here = build(mimic, tmp_path / "here")
    (tmp_path / "features.yaml").write_text("features: {}\n")
    (tmp_path / "replay.yaml").write_text("seed: 3\n")
    monkeypatch.chdir(tmp_path)
    there = build(mimic, tmp_path / "there")
    assert there.fingerprint == here.fingerprint


def test_a_file_of_the_users_features_makes_the_states(mimic, tmp_path):
    from sepsis_cql.replay.build import build_replay
    from sepsis_cql.replay.directory import open_replay

    settings = changed_file(tmp_path, "features", lambda v: v["features"].pop("albumin"))
    build_replay(mimic.write(tmp_path / "mimic"), tmp_path / "replay", settings)
    replay = open_replay(tmp_path / "replay")
    names = replay.transitions("train").state_names
    assert len(names) == 60 and "albumin" not in names
    assert replay.provenance.features == settings.features
    assert replay.statistics.normalizer.names == list(names)
