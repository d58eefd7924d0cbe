"""The main job on the open MIMIC-IV demo, through the command line."""

import json
import re
import shutil

import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel, pipeline
from typer.testing import CliRunner

from sepsis_cql.checkpoints.example import example_patient
from sepsis_cql.commands.app import app
from sepsis_cql.commands.reproduce import _name_program
from sepsis_cql.commands.study import REQUEST
from sepsis_cql.common.ownership import MARK
from sepsis_cql.evaluation.policies.load import load_policy
from sepsis_cql.evaluation.test_split import sha256_split
from sepsis_cql.publishing.export import write_explorer
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.training.sweep.ledger import read_ledger

from .replay.made_up import SIMULATION, six_septic_patients


@pytest.fixture(scope="module")
def run(mimic_demo, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce") / "run"
    result = CliRunner().invoke(app, [*command(mimic_demo), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out, result.output


def command(mimic):
    """The small study with two configurations, of which one is repeated, and short runs."""
    changes = [
        "sweep.grid.reward_variant=[sparse]",
        "sweep.grid.learning_rate=[0.001]",
        "sweep.top=1",
        "sweep.stage2_seeds=[42, 7]",
        "study.reference.learning_rate=0.001",
        "training.epochs=4",
        "evaluation.validation.refits=5",
        "evaluation.fqe.refits=5",
        "evaluation.resamples=50",
        "evaluation.behavior.models=[multinomial logistic]",
    ]
    return ["reproduce", "--mimic", str(mimic), *(f"--set={change}" for change in changes)]


def test_every_stage_leaves_its_directory(run):
    out, output = run
    files = [
        "replay/train.parquet",
        "training/package/model.safetensors",
        "evaluation/evaluation.json",
        "evaluation/final_test_evaluation.json",
        "audit/membership.json",
        "card/README.md",
        "export/manifest.json",
        "export/model/evidence/membership.json",
        "selection.json",
        "study.json",
    ]
    assert [name for name in files if not (out / name).exists()] == []
    for word in ("140 ICU stays", "62 of them septic", "47 episodes", "519 transitions", "15 deaths"):
        assert word in output
    compared = output.split("compare the choices")[1].split("audit")[0]
    assert "failed: undefined" in compared or "failed" not in compared


def test_what_to_do_next_is_what_a_shell_finds(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert _name_program(".venv/bin/sepsis-cql") == ".venv/bin/sepsis-cql"
    assert _name_program("somewhere/pytest") == "sepsis-cql"
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert _name_program(".venv/bin/sepsis-cql") == "sepsis-cql"


@pytest.mark.slow
def test_the_same_command_goes_on_after_an_interruption_and_ends_with_the_same_files(
    run, mimic_demo, tmp_path, monkeypatch
):
    """Stopped after the build, in the second run, in the evaluation and before the export; nothing is made again."""
    shutil.copytree(run[0] / "replay", tmp_path / "run" / "replay")
    for name in (MARK, REQUEST):
        shutil.copy(run[0] / name, tmp_path / "run")
    again = [*command(mimic_demo), "--out", str(tmp_path / "run")]
    epochs = []

    def stop(self, job, progress):
        epochs.append((job.runs[0].out.name, progress.epoch))
        if len(epochs) == 6:
            raise KeyboardInterrupt

    def fail(*arguments, **options):
        raise KeyboardInterrupt

    for name, value in (
        ("sweep.RunsBar.report", stop),
        ("reproduce.evaluate", fail),
        ("reproduce.export", fail),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"sepsis_cql.commands.{name}", value)
            stopped = CliRunner().invoke(app, again)
        assert "The same command goes on" in str(stopped.exception), stopped.output
        assert not (tmp_path / "run" / "export").exists()
    assert len(epochs) == 6
    result = CliRunner().invoke(app, again)
    assert result.exit_code == 0, result.output
    assert "build" not in result.output.split("train and choose")[0]
    for name in ("evaluation/stage1_evaluation.json", "evaluation/stage2_multiseed_validation.json",
                 "model.safetensors", "model/evidence/study.json"):  # fmt: skip
        assert (tmp_path / "run" / "export" / name).read_bytes() == (run[0] / "export" / name).read_bytes(), (
            name
        )


def test_the_published_snippet_opens_the_weights_that_the_package_has(run):
    model = AutoModel.from_pretrained(run[0] / "export", trust_remote_code=True)
    (file,) = (run[0] / "export" / "model").glob("*.pt")
    assert file.name == "cql_epoch0004_step0000004.pt"
    checkpoint = torch.load(file, map_location="cpu")
    assert list(checkpoint) == ["model_state_dict", "epoch", "global_step", "optimizer_state_dict"]
    for name, value in checkpoint["model_state_dict"].items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_every_file_the_card_lists_is_in_the_export(run):
    listed = list_files(run[0] / "export")
    stages = (
        "stage1_evaluation",
        "stage2_evaluation",
        "stage2_multiseed_validation",
        "final_test_evaluation",
    )
    assert {"config.json", "configs/cql.yaml", *(f"evaluation/{name}.json" for name in stages)} <= set(listed)
    assert [name for name in listed if not (run[0] / "export" / name).exists()] == []


def list_files(package):
    """What the first table of the card's contents names."""
    text = (package / "README.md").read_text().split("## Repository contents")[1]
    rows = text.split("The source repository")[0].splitlines()
    return [
        name for row in rows if row.startswith("| `") for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]


def test_the_report_leads_to_the_explorer_that_a_space_of_the_run_would_have(run, tmp_path):
    evaluation = run[0] / "evaluation"
    (place,) = re.findall(r'href="(.*?)"', (evaluation / "report.html").read_text(encoding="utf-8"))
    assert write_explorer(run[0], tmp_path / "space").read_bytes() == (evaluation / place).read_bytes()
    assert not [*(run[0] / "export").rglob("*.html"), *(run[0] / "card").rglob("*.html")]


def test_nine_test_episodes_identify_no_policy(run):
    evaluation = json.loads((run[0] / "evaluation" / "evaluation.json").read_text())
    assert evaluation["verdict"]["label"] == "cannot be identified"
    assert evaluation["replay"]["source"]["name"] == "mimic-iv-demo"
    assert evaluation["n_episodes"] == "<10"


def test_export_answers_by_remote_code(run):
    extractor = AutoFeatureExtractor.from_pretrained(run[0] / "export", trust_remote_code=True)
    patient = example_patient()
    answer = pipeline("sepsis-treatment", model=str(run[0] / "export"), trust_remote_code=True)(patient)[0]
    model = AutoModel.from_pretrained(run[0] / "export", trust_remote_code=True)
    assert answer["action"] == int(model.greedy_action(extractor(patient, return_tensors="pt")["states"])[0])


def test_push_lists_what_would_go_up_and_contacts_nobody(run):
    answer = CliRunner().invoke(app, ["push", "someone/sepsis", "--run", str(run[0]), "--dry-run"])
    assert answer.exit_code == 0, answer.output
    assert "model.safetensors" in answer.output


def test_verify_recomputes_the_metrics_from_the_replay(run, tmp_path):
    command = ["verify", str(run[0] / "export"), "--replay", str(run[0] / "replay")]
    answer = CliRunner().invoke(app, [*command, "--ledger", str(tmp_path / "ledger")])
    assert answer.exit_code == 0, answer.output
    assert "matches metrics" in answer.output
    (entry,) = read_ledger(tmp_path / "ledger")  # metrics of the test split were seen
    test = open_replay(run[0] / "replay").transitions("test")
    assert entry.split_sha256 == sha256_split(test)
    assert entry.policy_sha256 == load_policy(str(run[0] / "export")).identify()
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
        (["--data", "mimic-iv", "--mimic", "MADE_UP", "--out", "OUT"], "the tables are synthetic"),
        (["--mimic", "NOWHERE", "--out", "OUT"], "NOWHERE"),
        (["--mimic", "DEMO", "--out", "RUN"], "was begun with another study, changes"),
        (["--mimic", "DEMO", "--out", "OUT", "--size", "huge"], "study_huge"),
    ],
)
def test_wrong_requests_are_refused(run, mimic_demo, tmp_path, arguments, message):
    places = {"OUT": str(tmp_path / "out"), "DEMO": str(mimic_demo), "RUN": str(run[0])}
    if "MADE_UP" in arguments:
        places["MADE_UP"] = str(six_septic_patients().write(tmp_path / "mimic"))
        (tmp_path / "mimic" / "SYNTHETIC.json").write_text(json.dumps(SIMULATION))
    result = CliRunner().invoke(app, ["reproduce", *(places.get(word, word) for word in arguments)])
    assert result.exit_code != 0
    assert message in str(result.exception)
