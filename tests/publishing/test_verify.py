"""`verify` finds whatever was changed in a published package, and says what it could not check."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.evaluation.record import load_evaluation
from sepsis_cql.publishing.evidence import FOLDER
from sepsis_cql.publishing.guard.strict_json import dump_json
from sepsis_cql.publishing.hub import push
from sepsis_cql.publishing.manifest import MANIFEST, dump_manifest
from sepsis_cql.publishing.probes import PROBES
from sepsis_cql.publishing.verify import metric_differences, verify


def results(directory, replay=None):
    return {comparison.what.split(",")[0]: comparison.result for comparison in verify(directory, replay)}


UNTOUCHED = {
    "files": "matches",
    "signature of the manifest": "not checked",
    "code": "matches",
    "card": "matches",
    "q-values on made-up states": "matches",
    "metrics": "not checked",
}


def test_pushed_package_downloads_and_verifies(export, hub, api, monkeypatch):
    push(export, "someone/sepsis", tag="v1", api=api)
    monkeypatch.setattr("sepsis_cql.publishing.hub.HfApi", lambda: api)
    answer = CliRunner().invoke(app, ["verify", "someone/sepsis@v1", "--json"])
    found = json.loads(answer.stdout)["comparisons"]
    assert {one["what"].split(",")[0]: one["result"] for one in found} == UNTOUCHED
    assert answer.exit_code == 0


def edit(file, old, new):
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new, 1))


def change_weight(export):
    data = bytearray((export / "model.safetensors").read_bytes())
    data[-2] ^= 0x40
    (export / "model.safetensors").write_bytes(bytes(data))


def change_probe(export):
    probes = json.loads((export / PROBES).read_text())
    probes["q_values"][3][7] += 0.01
    (export / PROBES).write_bytes(dump_json(probes))


def add_patient_to_probes(export):
    probes = json.loads((export / PROBES).read_text())
    probes["states"][0][0] = 71.0
    (export / PROBES).write_bytes(dump_json(probes))


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (change_weight, "q-values on made-up states"),
        (change_probe, "q-values on made-up states"),
        (add_patient_to_probes, "q-values on made-up states"),
        (
            lambda export: edit(export / "README.md", b"cannot be identified", b"better than clinicians"),
            "card",
        ),
        (lambda export: edit(export / "modeling_sepsis_cql.py", b"import torch", b"import  torch"), "code"),
        (lambda export: (export / "rows.csv").write_text("subject_id\n1\n"), "code"),
        (lambda export: (export / "config.json").unlink(), "code"),
    ],
)
def test_change_is_found_even_under_a_manifest_made_to_fit(export, tamper, found):
    tamper(export)
    assert results(export)["files"] == "differs"
    fit_manifest(export)
    after = results(export)
    assert after["files"] == ("differs" if (export / "rows.csv").exists() else "matches")
    assert after[found] == "differs"


def fit_manifest(export):
    files = {path.relative_to(export).as_posix(): path.read_bytes() for path in export.rglob("*.*")}
    (export / MANIFEST).write_bytes(dump_manifest(files | {"LICENSE": (export / "LICENSE").read_bytes()}))


def test_a_package_of_another_version_comes_with_advice(export):
    edit(export / "configs" / "sweep.yaml", b"stage2_seeds", b"seeds_of_stage2")
    fit_manifest(export)
    said = CliRunner().invoke(app, ["verify", str(export)]).output
    assert "configs/sweep.yaml" in said and "Made from commit" in " ".join(said.split())


def test_other_replay_is_not_held_against_the_package(export, tmp_path):
    other = SimpleNamespace(fingerprint="0" * 64)
    assert {one.what.split(",")[0]: one.result for one in verify(export, other)} == UNTOUCHED


def test_an_evaluation_by_other_settings_is_told_apart_and_its_policies_are_not_paired(export):
    recorded = load_evaluation(export / FOLDER)
    assert list(metric_differences(recorded, recorded)) == []
    other = recorded.model_copy(update={"gamma": 0.5, "policies": recorded.policies[1:]})
    found = list(metric_differences(recorded, other))
    assert found[0].startswith("gamma: recorded 0.99, found 0.5")
    assert len(found) == 2 and found[1].startswith("policies: recorded ['package', ")


def test_command_exits_with_an_error_where_something_differs(export):
    assert CliRunner().invoke(app, ["verify", str(export)]).exit_code == 0
    change_probe(export)
    answer = CliRunner().invoke(app, ["verify", str(export)])
    assert answer.exit_code == 1
    assert "differs" in answer.output and "Made from" not in answer.output  # no version's fault


def test_target_without_revision_is_refused():
    assert "REVISION" in str(CliRunner().invoke(app, ["verify", "someone/sepsis"]).exception)
