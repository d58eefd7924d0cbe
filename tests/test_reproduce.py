"""The main job on the open MIMIC-IV demo, through the command line."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app

LOAD = """
import sys
from transformers import AutoFeatureExtractor, AutoModel, pipeline
folder = sys.argv[1]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
row = {fact["name"]: 1.0 if fact["name"] == "shock_index" else (fact["low"] + fact["high"]) / 2
       for fact in extractor.features}
inputs = extractor(row, return_tensors="pt")
assert model(**inputs).q_values.shape == (1, 25)
answer = pipeline("sepsis-treatment", model=folder, trust_remote_code=True)(row)
print("action", int(model.greedy_action(inputs["states"])[0]), answer)
"""


@pytest.fixture(scope="module")
def run(mimic_demo, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce") / "run"
    result = CliRunner().invoke(app, ["reproduce", "--mimic", str(mimic_demo), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out, result.output


def test_every_stage_leaves_its_directory(run):
    out, output = run
    files = [
        "replay/train.parquet",
        "training/package/model.safetensors",
        "evaluation/evaluation.json",
        "evaluation/final_test_evaluation.json",
        "card/README.md",
        "export/manifest.json",
        "selection.json",
    ]
    assert [name for name in files if not (out / name).exists()] == []
    for word in ("140 ICU stays", "62 of them septic", "47 episodes", "519 transitions", "15 deaths"):
        assert word in output


def test_nine_test_episodes_identify_no_policy(run):
    evaluation = json.loads((run[0] / "evaluation" / "evaluation.json").read_text())
    assert evaluation["verdict"]["label"] == "cannot be identified"
    assert evaluation["replay"]["source"]["name"] == "mimic-iv-demo"
    assert evaluation["n_episodes"] == "<10"


def test_export_loads_in_a_fresh_process_with_remote_code(run, tmp_path):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    script = subprocess.run(
        [sys.executable, "-c", LOAD, str(run[0] / "export")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert script.returncode == 0, script.stderr
    assert script.stdout.startswith("action ")


def test_push_lists_what_would_go_up_and_contacts_nobody(run):
    answer = CliRunner().invoke(app, ["push", "someone/sepsis", "--run", str(run[0]), "--dry-run"])
    assert answer.exit_code == 0, answer.output
    assert "model.safetensors" in answer.output


def test_verify_recomputes_the_metrics_from_the_replay(run, tmp_path):
    command = ["verify", str(run[0] / "export"), "--replay", str(run[0] / "replay")]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.output
    assert "matches metrics" in answer.output
    changed = tmp_path / "export"
    shutil.copytree(run[0] / "export", changed)
    evidence = changed / "model" / "evidence" / "evaluation.json"
    evidence.write_text(evidence.read_text().replace('"fqe_mean": ', '"fqe_mean": 1'))
    answer = CliRunner().invoke(app, ["verify", str(changed), *command[2:]])
    assert answer.exit_code == 1
    assert "differs code" in answer.output and "not checked metrics" in answer.output


def test_export_holds_nothing_of_a_single_patient(run):
    names = {path.suffix for path in (run[0] / "export").rglob("*") if path.is_file()}
    assert names <= {".json", ".md", ".py", ".yaml", ".pt", ".png", ".safetensors", ""}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mimic-iv", "--out", "OUT"], "needs --mimic"),
        (["--data", "synthetic", "--mimic", "DEMO", "--out", "OUT"], "leave --mimic away"),
        (["--data", "mimic-iv", "--mimic", "DEMO", "--out", "OUT"], "the tables are mimic-iv-demo"),
        (["--mimic", "NOWHERE", "--out", "OUT"], "NOWHERE"),
        (["--mimic", "DEMO", "--out", "RUN"], "--force"),
    ],
)
def test_wrong_requests_are_refused(run, mimic_demo, tmp_path, arguments, message):
    places = {"OUT": str(tmp_path / "out"), "DEMO": str(mimic_demo), "RUN": str(run[0])}
    result = CliRunner().invoke(app, ["reproduce", *(places.get(word, word) for word in arguments)])
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_every_command_says_that_it_is_not_for_patients_and_has_help():
    top = CliRunner().invoke(app, ["--help"])
    assert "never use it for patient care" in " ".join(top.output.split())
    for command in app.registered_commands:
        name = (command.name or command.callback.__name__).replace("_", "-")
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
