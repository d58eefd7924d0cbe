"""A sweep trains what the protocol asks for, goes on after failures and resumes at what is missing."""

import json
import math
from threading import Barrier

import pytest
import torch

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import EvaluationError, SepsisCQLError, TrainingError
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.training.run import train_from_replay
from sepsis_cql.training.sweep import jobs
from sepsis_cql.training.sweep.protocol import Sweep, SweepSettings
from sepsis_cql.training.sweep.selection import load_selection

from .made_up import RUNTIME, SETTINGS, make_score

GRID = {"reward_variant": ["sparse", "sofa_shaped"], "learning_rate": [1e-3], "alpha": [0.1, 1.0]}
PROTOCOL = SweepSettings(grid=GRID, stage1_seed=42, top=2, stage2_seeds=[42, 7], score_epochs=2, metric="fqe")


def score(model):
    """A stand-in for the evaluation: larger alpha is better, later epochs are not."""
    value = model.config.alpha - float(model.net[0].weight.detach().norm()) / 1e3
    return make_score(value)


def make_sweep(
    replay, out, scorer=score, runs_per_model=1, threads=1, report=lambda job, progress: None, **changes
):
    return Sweep(
        open_replay(replay),
        out,
        PROTOCOL.model_copy(update=changes),
        SETTINGS,
        RUNTIME.model_copy(update={"runs_per_model": runs_per_model, "threads": threads}),
        scorer,
        report=report,
    )


def run_both(sweep, *, resume=False):
    sweep.open(resume=resume, force=False)
    return sweep.run_stage2(sweep.run_stage1())


@pytest.fixture(scope="module")
def finished(demo_replay, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("sweep") / "sweep"
    sweep = make_sweep(demo_replay, out)
    scored = run_both(sweep)
    configuration = sweep.rank(scored).configuration
    for run in scored:  # also the one that is chosen may be the reference; it is not trained again
        assert sweep.run_reference(configuration(run) | {"seed": run.settings.seed}) == run
    return out, scored, sweep.select(scored)


def read(out, name):
    return json.loads((out / name).read_text())


@pytest.mark.slow
def test_stage_1_trains_the_grid_and_stage_2_repeats_the_top_with_every_seed(finished):
    out, scored, _ = finished
    first, second = read(out, "stage1_evaluation.json"), read(out, "stage2_evaluation.json")
    assert first["n_total_configs"] == len(first["rankings"]) == 4
    assert {row["seed"] for row in first["rankings"]} == {42}
    assert [row["cql_alpha"] for row in first["rankings"]] == [1.0, 1.0, 0.1, 0.1]
    assert sorted((row["cql_alpha"], row["seed"]) for row in second["rankings"]) == [
        (1, 7),
        (1, 7),
        (1, 42),
        (1, 42),
    ]
    assert {run.name for run in scored} < {directory.name for directory in (out / "runs").iterdir()}
    assert len(list((out / "runs").iterdir())) == 6  # seed 42 is not trained twice


def test_the_list_of_runs_tells_them_apart_by_their_settings(finished, capsys):
    app(["runs", str(finished[0] / "runs"), "--json"], standalone_mode=False)
    said = [run["says"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert len(set(said)) == len(said) == 6
    assert any("alpha 1.0" in one for one in said)


def test_every_run_is_scored_after_each_scored_epoch(finished):
    for run in finished[1]:
        assert [score.epoch for score in run.scores] == [2, 4, 6]


def test_the_chosen_run_is_frozen_at_its_best_epoch(finished):
    out, scored, selection = finished
    assert load_selection(out / "selection.json") == selection
    chosen = next(run for run in scored if run.name == selection.validation.run)
    model = load_package(out / "selected" / "package")
    best = chosen.best("fqe")
    assert score(model).fqe == pytest.approx(best.fqe)
    assert read(out / "selected", "training.json")["epochs"] == best.epoch
    assert len((out / "selected" / "metrics.jsonl").read_text().splitlines()) == best.epoch


def test_another_choice_does_not_replace_the_frozen_one(finished, demo_replay):
    out, _, selection = finished
    sweep = make_sweep(demo_replay, out, metric="published")
    scored = run_both(sweep, resume=True)
    with pytest.raises(TrainingError, match="already froze policy"):
        sweep.select(scored)
    assert read(out / "selected", "training.json")["weights_sha256"] == selection.weights_sha256


def test_a_run_of_a_job_of_the_sweep_equals_the_run_alone(finished, demo_replay, tmp_path):
    sweep = make_sweep(demo_replay, tmp_path / "together", runs_per_model=3)
    sweep.open(resume=False, force=False)
    sweep.run_stage1()
    for directory in (tmp_path / "together" / "runs").iterdir():
        found = load_package(directory / "package")
        single = load_package(finished[0] / "runs" / directory.name / "package")
        for name, value in single.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    settings = SETTINGS.model_copy(
        update={"seed": 42, "alpha": 1.0, "checkpoint_epochs": 2, "keep_checkpoints": 3}
    )
    alone = train_from_replay(open_replay(demo_replay), tmp_path / "alone", settings, RUNTIME)
    run = finished[0] / "runs" / "sparse_lr0.001_alpha1_seed42"
    assert read(run, "training.json")["weights_sha256"] == alone.weights_sha256


def test_the_runs_of_a_job_are_scored_by_several_threads_at_once(finished, demo_replay, tmp_path):
    together = Barrier(2)

    def score_together(model):
        together.wait(timeout=60)
        return score(model)

    sweep = make_sweep(demo_replay, tmp_path / "sweep", score_together, runs_per_model=4, threads=4)
    sweep.open(resume=False, force=False)
    alone = {run.name: run for run in finished[1]}
    for run in sweep.run_stage1():
        if run.name in alone:
            expected = [found.fqe for found in alone[run.name].scores]
            assert [found.fqe for found in run.scores] == pytest.approx(expected, abs=1e-5)
    assert not sweep.failures
    assert torch.get_num_threads() == 4


def test_an_interrupted_sweep_resumes_at_the_missing_run(finished, demo_replay, tmp_path, monkeypatch):
    def interrupt(job, progress):
        if "alpha1_" in job.runs[0].out.name and progress.epoch == 3:
            raise KeyboardInterrupt

    out = tmp_path / "sweep"
    with pytest.raises(KeyboardInterrupt):
        run_both(make_sweep(demo_replay, out, report=interrupt))
    done = {path.parent.name for path in out.glob("runs/*/scores.json")}
    assert len(done) == 1
    trained = []
    original = jobs.train_runs
    monkeypatch.setattr(
        jobs,
        "train_runs",
        lambda runs, *args, **kw: trained.append(runs[0].out.name) or original(runs, *args, **kw),
    )
    scored = run_both(make_sweep(demo_replay, out), resume=True)
    assert len(trained) == 5
    assert not done & set(trained)
    assert scored == finished[1]


def test_a_failed_run_is_reported_and_does_not_stop_the_others(demo_replay, tmp_path):
    def fail_for_one(model):
        if model.config.reward_variant == "sofa_shaped" and model.config.alpha == 1.0:
            raise EvaluationError("no overlap at all")
        return score(model)

    sweep = make_sweep(demo_replay, tmp_path / "sweep", scorer=fail_for_one)
    sweep.open(resume=False, force=False)
    assert len(sweep.run_stage1()) == 3
    failed = {"sofa_shaped_lr0.001_alpha1_seed42": "no overlap at all"}
    assert sweep.failures == failed
    assert read(tmp_path / "sweep", "stage1_evaluation.json")["failed"] == failed


def test_a_damaged_checkpoint_fails_its_run_and_not_the_others(demo_replay, tmp_path):
    out = tmp_path / "sweep"
    sweep = make_sweep(demo_replay, out)
    sweep.open(resume=False, force=False)
    first, *others = [run.name for run in sweep.run_stage1()]
    (out / "runs" / first / "scores.json").unlink()
    newest = max((out / "jobs" / "stage1_00").glob("epoch_*"))
    newest.write_bytes(newest.read_bytes()[:100])
    resumed = make_sweep(demo_replay, out)
    resumed.open(resume=True, force=False)
    assert [run.name for run in resumed.run_stage1()] == others
    assert newest.name in resumed.failures.pop(first)
    assert not resumed.failures


@pytest.mark.parametrize("runs_per_model", [1, 4])
def test_a_run_whose_loss_becomes_nan_fails_alone(demo_replay, tmp_path, runs_per_model):
    grid = GRID | {"reward_variant": ["sparse"], "learning_rate": [1e-3, 1e38]}
    sweep = make_sweep(demo_replay, tmp_path / "sweep", runs_per_model=runs_per_model, grid=grid)
    sweep.open(resume=False, force=False)
    assert sorted(run.settings.learning_rate for run in sweep.run_stage1()) == [1e-3, 1e-3]
    assert len(sweep.failures) == 2
    for reason in sweep.failures.values():
        assert "expected finite losses" in reason


def test_a_sweep_of_failures_says_why(demo_replay, tmp_path):
    def fail(model):
        raise EvaluationError("no overlap at all")

    sweep = make_sweep(demo_replay, tmp_path / "sweep", scorer=fail)
    sweep.open(resume=False, force=False)
    with pytest.raises(TrainingError, match="all 4 runs of stage1 failed: no overlap at all"):
        sweep.run_stage1()


def test_another_sweep_in_the_directory_is_refused_with_the_difference(finished, demo_replay):
    with pytest.raises(SepsisCQLError, match="--resume"):
        make_sweep(demo_replay, finished[0]).open(resume=False, force=False)
    with pytest.raises(TrainingError, match=r"sweep\.top: was 2, now 1"):
        make_sweep(demo_replay, finished[0], top=1).open(resume=True, force=False)


def test_scores_are_finite_json(finished):
    for file in finished[0].glob("runs/*/scores.json"):
        assert all(math.isfinite(row["fqe"]) for row in json.loads(file.read_text())["scores"])


@pytest.mark.parametrize(
    ("grid", "names", "n_jobs"),
    [
        ({"batch_size": [16, 32], "alpha": [0.1, 1.0]}, {"batch_size16_alpha0.1", "batch_size32_alpha1"}, 2),
        ({"hidden_sizes": [[8], [16, 16]]}, {"hidden_sizes8", "hidden_sizes16-16"}, 2),
        ({"epochs": [2, 6]}, {"epochs2", "epochs6"}, 2),
        ({"learning_rate": ["1e-3", 0.01]}, {"lr0.001", "lr0.01"}, 1),  # YAML reads 1e-3 as text
    ],
)
def test_a_grid_may_vary_any_setting_and_a_job_holds_runs_that_train_together(
    demo_replay, tmp_path, grid, names, n_jobs
):
    sweep = make_sweep(demo_replay, tmp_path / "sweep", runs_per_model=4, grid=grid, top=1)
    scored = run_both(sweep)
    assert not sweep.failures
    assert names <= {
        directory.name.removesuffix("_seed42") for directory in (tmp_path / "sweep" / "runs").iterdir()
    }
    assert len(list((tmp_path / "sweep" / "jobs").glob("stage1_*"))) == n_jobs
    assert {run.settings.seed for run in scored} == {42, 7}
    for run in scored:
        assert [found.epoch for found in run.scores] == list(range(2, run.settings.epochs + 1, 2))
    assert sweep.select(scored).settings == max(scored, key=lambda run: run.best("fqe").fqe).settings


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"alpha": [0.1], "tau": [1]},
            r"sweep\.grid: \['tau'\] cannot vary for cql; expected .*'alpha', 'batch_size'",
        ),
        ({"seed": [1, 2]}, r"\['seed'\] cannot vary"),
        ({"alpha": [0.1, -1.0]}, r"sweep\.grid: alpha: .*greater than or equal to 0 \(found -1\.0\)"),
        ({"alpha": [0.1, 0.10000001]}, r"more than one run alpha0\.1_seed\d+"),
    ],
)
def test_a_grid_that_cannot_vary_is_refused_by_name_before_anything_is_trained(
    demo_replay, tmp_path, grid, message
):
    with pytest.raises(TrainingError, match=message):
        run_both(make_sweep(demo_replay, tmp_path / "sweep", grid=grid))
    assert not (tmp_path / "sweep" / "runs").exists()
