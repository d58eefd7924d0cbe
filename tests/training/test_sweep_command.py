"""`sepsis-cql sweep` on the demo, scored by the real evaluation."""

import math

import yaml
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.storage import read_json, sha256_file
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.test_split import frozen_version
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.sweep.protocol import SweepSettings
from sepsis_cql.training.sweep.selection import load_selection

from ..conftest import ROOT


def test_the_shipped_protocol_is_the_published_one():
    settings = load_shipped(SweepSettings, "sweep.yaml")
    grid = settings.grid
    assert math.prod(map(len, grid.values())) == 24
    assert grid["learning_rate"] == [1e-4, 3e-4, 1e-3]
    assert grid["alpha"] == [0.05, 0.1, 0.5, 1.0]
    assert (settings.stage1_seed, settings.top) == (42, 6)
    assert settings.stage2_seeds == [42, 123, 456, 789, 1024]
    assert settings.metric == "fqe"
    assert load_training_settings(ROOT / "configs" / "cql.yaml").epochs == 200


def test_the_command_runs_stage_1_then_stage_2_and_freezes_the_choice(demo_replay, tmp_path):
    protocol = {
        "grid": {"reward_variant": ["sparse"], "learning_rate": [0.001], "alpha": [0.05, 1.0]},
        "stage1_seed": 42,
        "top": 1,
        "stage2_seeds": [42, 7],
        "score_epochs": 3,
        "metric": "published",
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(protocol))
    out = tmp_path / "sweep"
    options = ["sweep", f"--replay={demo_replay}", f"--out={out}", f"--config={tmp_path / 'sweep.yaml'}"]
    options += [
        "--set=training.epochs=3",
        "--set=runtime.threads=1",
        "--set=runtime.device=cpu",
        "--metric=fqe",
    ]
    first = CliRunner().invoke(app, [*options, "--stage=1"], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert not (out / "selection.json").exists()
    second = CliRunner().invoke(app, [*options, "--stage=2"], catch_exceptions=False)
    assert second.exit_code == 0, second.output
    selection = load_selection(out / "selection.json")
    assert selection.validation.metric == "fqe"
    assert frozen_version(out / "selection.json", "package") == selection.validation.score.softening
    assert frozen_version(out / "selection.json", "function") is None
    assert selection.weights_sha256 == sha256_file(out / "selected" / "package" / "model.safetensors")
    for file, stage in (("stage1_evaluation.json", 1), ("stage2_evaluation.json", 2)):
        evaluation = read_json(out / file, expected="")
        assert (evaluation["stage"], evaluation["metric"], evaluation["failed"]) == (stage, "fqe", {})
    (result,) = read_json(out / "stage2_multiseed_validation.json", expected="")["results"]
    assert result["n_seeds"] == 2
    assert "validation overlaps too little" in second.output  # 7 stays identify no policy
