"""Damaged records, settings, weights, checkpoints and ledgers: each is refused in one message that names the file."""

import json
import os
import shutil

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.checkpoints.original_pt import model_from_checkpoint, read_original_checkpoint
from sepsis_cql.commands.study import StudySettings
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.strict import SHIPPED, load_settings, read_record
from sepsis_cql.evaluation.claims import load_claims
from sepsis_cql.evaluation.comparison.record import ComparisonSettings
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings
from sepsis_cql.evaluation.record import load_evaluation
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.publishing.card import check_card
from sepsis_cql.publishing.membership.record import AuditSettings
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.records import Simulation
from sepsis_cql.replay.settings import Features, Fluids, ReplaySettings
from sepsis_cql.synthetic.settings import SyntheticSettings
from sepsis_cql.tests.replay.made_up import SIMULATION
from sepsis_cql.training.checkpoint import KEY, load_checkpoint
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.loop import read_log
from sepsis_cql.training.outputs import read_run_record
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.sweep.ledger import HEAD, LEDGER, open_test_split, read_ledger
from sepsis_cql.training.sweep.protocol import SweepSettings
from sepsis_cql.training.sweep.selection import load_selection

from .mutations import DAMAGED_BYTES, DAMAGED_TEXT, damage_document
from .refusals import LONG, MAY_BE_RIGHT, assert_large, documents_of, wrongly_taken

RECORDS = {
    "replay/provenance.json": lambda place: open_replay(place / "replay").provenance,
    "replay/statistics.json": lambda place: open_replay(place / "replay").statistics,
    "training/training.json": lambda place: read_run_record(place / "training"),
    "training/package/config.json": lambda place: load_package(place / "training" / "package"),
    "selection.json": lambda place: load_selection(place / "selection.json"),
}


HUGE = ([10**12] * 2, [10**30], [2**62] * 64, [1] * 65, [1] * 10**5, [4096] * 64, [-(10**30)])
MANY = ("state_names", "missing_flags", "vasopressor_edges")


@pytest.mark.parametrize("name", RECORDS)
def test_damaged_records_of_a_run_are_refused(copy, name):
    mutants = documents_of((copy / name).read_text())
    door = lambda: RECORDS[name](copy)  # noqa: E731
    may = (*MAY_BE_RIGHT, "custom_pipelines", "auto_map")  # for the Hub's own loader, which is not used here
    assert wrongly_taken("records", door, copy / name, mutants, may_be_right=may) == []


def test_a_network_that_no_file_of_ours_could_hold_is_refused_before_it_is_made(copy):
    file = copy / "training" / "package" / "config.json"
    whole = json.loads(file.read_text())
    wrong = {f"hidden_sizes {widths[:2]}": {"hidden_sizes": widths} for widths in HUGE}
    wrong |= {f"many {name}": {name: [f"{number}_missing" for number in range(10**5)]} for name in MANY}
    mutants = {name: json.dumps(whole | change).encode() for name, change in wrong.items()}
    assert wrongly_taken("records", lambda: load_package(file.parent), file, mutants) == []


def test_damaged_simulations_and_evaluations_are_refused(tmp_path):
    (tmp_path / "SYNTHETIC.json").write_text(json.dumps(SIMULATION))
    shutil.copyfile(ROOT / "model/evidence/evaluation.json", tmp_path / "evaluation.json")
    doors = {
        "SYNTHETIC.json": lambda: read_record(Simulation, tmp_path / "SYNTHETIC.json", expected="a mark"),
        "evaluation.json": lambda: load_evaluation(tmp_path),
    }
    for name, door in doors.items():
        mutants = documents_of((tmp_path / name).read_text())
        may = (*MAY_BE_RIGHT, "settings")  # of a simulation, which another model checks
        assert wrongly_taken("records", door, tmp_path / name, mutants, may_be_right=may) == []


@pytest.mark.parametrize("name", ["build_report", "training", "evaluation"])
def test_damaged_evidence_renders_no_card(tmp_path, name):
    shutil.copytree(ROOT / "model" / "evidence", tmp_path / "model" / "evidence")
    shutil.copyfile(ROOT / "README.md", tmp_path / "README.md")
    shutil.copyfile(ROOT / "config.json", tmp_path / "config.json")
    file = tmp_path / "model" / "evidence" / f"{name}.json"
    assert wrongly_taken("evidence", lambda: check_card(tmp_path), file, documents_of(file.read_text())) == []


SETTINGS = {
    "synthetic": lambda file: load_settings(SyntheticSettings, file),
    "evaluation": lambda file: load_settings(EvaluationSettings, file),
    "replay": lambda file: load_settings(ReplaySettings, file),
    "features": lambda file: load_settings(Features, file),
    "fluids": lambda file: load_settings(Fluids, file),
    "sweep": lambda file: load_settings(SweepSettings, file),
    "runtime.cpu": lambda file: load_settings(RuntimeSettings, file),
    "cql": load_training_settings,
    "behavior_cloning": load_training_settings,
    "comparison": lambda file: load_settings(ComparisonSettings, file),
    "calibration": lambda file: load_settings(CalibrationSettings, file),
    "study_small": lambda file: load_settings(StudySettings, file),
    "membership": lambda file: load_settings(AuditSettings, file),
    "claims": load_claims,
}


CLAIMS = """\
source: made up
attainable: [-15, 15]
n_episodes: 380
rows:
  - {policy: ours, role: learned, estimator: wis, value: 15.7, interval: [1.0, 2.0], ess: 10.2, split: test}
"""
FREE = (
    "grid.",
    "grids.",
    "schedule.",
    "synthetic.",
    "sweep.",
    "training.",
    "reference.",
)  # checked by their own


@pytest.mark.parametrize("name", SETTINGS)
def test_wrong_settings_are_refused(tmp_path, name):
    file = tmp_path / "mine.yaml"
    text = CLAIMS if name == "claims" else (SHIPPED / f"{name}.yaml").read_text()
    wrong = damage_document(yaml.safe_load(text), most=10 if len(text) < LONG else 3)
    mutants = {key: yaml.safe_dump(value).encode() for key, value in wrong.items()}
    mutants |= {
        key: damage(text.encode())
        for key, damage in DAMAGED_TEXT.items()
        if not key.startswith("cut") and len(text) < LONG
    }
    first = next(iter(yaml.safe_load(text)))
    mutants |= {
        "a key twice": f"{text}\n{first}: 1\n".encode(),
        "an alias": f"{text}\nx: &a 1\ny: *a\n".encode(),
        "a tag": f"{text}\nx: !!python/object/apply:os.system ['true']\n".encode(),
    }
    door = lambda: SETTINGS[name](file)  # noqa: E731
    may = (*MAY_BE_RIGHT, *FREE)
    assert wrongly_taken("settings", door, file, mutants, may_be_right=may) == []


def test_damaged_weights_are_refused(copy):
    file = copy / "training" / "package" / "model.safetensors"
    tensors, data = load_file(file), file.read_bytes()
    mutants = {name: damage(data) for name, damage in DAMAGED_BYTES.items()}
    mutants |= {
        "a header of 4 GB": (2**32).to_bytes(8, "little") + data[8:],
        "a header of no length": (0).to_bytes(8, "little") + data[8:],
        "a nested header": (100_000).to_bytes(8, "little") + b"[" * 100_000,
        "one byte more": data + b"x",
    }
    from safetensors.torch import save

    for name, tensor in tensors.items():
        mutants |= {
            f"without {name}": save({key: value for key, value in tensors.items() if key != name}),
            f"NaN in {name}": save(tensors | {name: torch.full_like(tensor, torch.nan)}),
            f"{name} in another type": save(tensors | {name: tensor.double()}),
            f"{name} in another shape": save(tensors | {name: tensor[None].clone()}),
        }
    mutants["a tensor more"] = save(tensors | {"more": torch.ones(1)})
    mutants["many tensors of long names"] = save(
        tensors | {f"{i}{'x' * 999}": torch.ones(1) for i in range(99)}
    )
    door = lambda: load_package(copy / "training" / "package")  # noqa: E731
    assert wrongly_taken("packages", door, file, mutants) == []


def test_damaged_checkpoints_are_refused(copy):
    place = copy / "training" / "checkpoints"
    file = sorted(place.glob("*.safetensors"))[-1]
    with safe_open(file, framework="pt") as stream:
        facts = json.loads(stream.metadata()[KEY])
    tensors, data = load_file(file), file.read_bytes()
    mutants = {name: damage(data) for name, damage in DAMAGED_BYTES.items()}
    texts = {name: damage(json.dumps(facts).encode()) for name, damage in DAMAGED_TEXT.items()}
    texts |= {name: json.dumps(value).encode() for name, value in damage_document(facts).items()}
    for name, text in texts.items():
        save_file(tensors, file, metadata={KEY: text.decode(errors="replace")})
        mutants[f"facts: {name}"] = file.read_bytes()
    door = lambda: load_checkpoint(file, facts["identity"])  # noqa: E731
    assert wrongly_taken("checkpoints", door, file, mutants) == []


def test_damaged_logs_of_a_run_are_refused(copy):
    file = copy / "training" / "metrics.jsonl"
    assert len(read_log(file)) == 2
    mutants = {name: damage(file.read_bytes()) for name, damage in DAMAGED_TEXT.items()}
    first = file.read_text().splitlines()[0]
    wrong = damage_document(json.loads(first))
    mutants |= {
        name: f"{first}\n{json.dumps(value)}\n".encode() for name, value in wrong.items() if "exp" not in name
    }
    may = ("empty", "cut in half")  # of a run that logged nothing, or one epoch, yet
    assert wrongly_taken("records", lambda: read_log(file), file, mutants, may_be_right=may) == []


def test_damaged_original_checkpoints_are_refused(copy):
    (file,) = (copy / "training" / "model").glob("*.pt")
    mutants = {name: damage(file.read_bytes()) for name, damage in DAMAGED_BYTES.items()}
    whole, good = torch.load(file, weights_only=True), file.read_bytes()
    for name, values in damage_document({key: whole[key] for key in ("epoch", "global_step")}).items():
        torch.save(whole | {"epoch": None, "global_step": None} | values, file)
        mutants[name] = file.read_bytes()
    door = lambda: read_original_checkpoint(file)  # noqa: E731
    assert wrongly_taken("checkpoints", door, file, mutants) == []
    of_no_bytes = torch.ones(1).expand(10**6, 10**6)  # one number, that claims to be a million million
    for name in whole["model_state_dict"]:
        torch.save(whole | {"model_state_dict": whole["model_state_dict"] | {name: of_no_bytes}}, file)
        mutants[f"{name} of no bytes"] = file.read_bytes()
    network = lambda: model_from_checkpoint(read_original_checkpoint(file))  # noqa: E731
    assert wrongly_taken("checkpoints", network, file, mutants) == []
    file.write_bytes(good)
    manifest = file.with_name(f"{file.stem}_manifest.json")
    mutants = {name: damage(manifest.read_bytes()) for name, damage in DAMAGED_TEXT.items()}
    assert wrongly_taken("checkpoints", door, manifest, mutants) == []


@pytest.mark.parametrize("name", [LEDGER, HEAD])
def test_damaged_ledgers_are_refused(tmp_path, name):
    open_test_split(tmp_path, "a" * 64, "c" * 64)
    file = tmp_path / name
    mutants = {key: damage(file.read_bytes()) for key, damage in DAMAGED_TEXT.items()}
    if name == LEDGER:
        entry = json.loads(file.read_text())
        wrong = damage_document(entry)
        mutants |= {
            key: (json.dumps(value, separators=(",", ":")) + "\n").encode() for key, value in wrong.items()
        }
    found = wrongly_taken(
        "ledgers", lambda: read_ledger(tmp_path), file, mutants, may_be_right=("empty",) * (name == HEAD)
    )
    assert [row for row in found if "test_splits" not in row[1]] == []


@pytest.mark.parametrize("name", [LEDGER, HEAD])
def test_a_pipe_is_no_ledger_and_is_not_waited_for(tmp_path, name):
    open_test_split(tmp_path, "a" * 64, "c" * 64)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(SepsisCQLError, match="no regular file"):
        read_ledger(tmp_path)


def test_campaign_was_large():
    assert_large("records evidence settings packages checkpoints ledgers", at_least=300)
