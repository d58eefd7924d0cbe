"""What the terminal prints: numbers unbroken at 80 columns, failed estimates as such, the time that is left."""

import json
import shutil
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.commands.evaluate import print_metrics
from sepsis_cql.commands.output import Work, console, print_rows
from sepsis_cql.commands.sweep import RunsBar
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.evaluation.record import Estimate, load_evaluation
from sepsis_cql.evaluation.report.page import render_page

from .conftest import ROOT


def call(*options):
    return CliRunner().invoke(app, [str(option) for option in options])


@pytest.fixture(scope="module")
def evaluated(demo_replay, tmp_path_factory):
    """What `evaluate --json` printed, and its directory."""
    folder = tmp_path_factory.mktemp("evaluated")
    values = yaml.safe_load((SHIPPED / "evaluation.yaml").read_text())
    values["fqe"] |= {"refits": 3, "features": 8, "components": 2}
    values |= {"clinician_shares": [0.5], "tilt_temperatures": [5.0], "resamples": 20}
    (folder / "mine.yaml").write_text(yaml.safe_dump(values))
    options = ["--policy", ROOT, "--replay", demo_replay, "--out", folder / "out", "--json"]
    result = call("evaluate", *options, "--config", folder / "mine.yaml")
    assert result.exit_code == 0, result.output
    return result.stdout, folder / "out"


def test_json_is_the_record_and_nothing_else(evaluated):
    text, directory = evaluated
    assert text == (directory / "evaluation.json").read_text()


def printed(directory, **options):
    with console.capture() as captured:
        print_metrics(directory, **options)
    return captured.get()


def edited(directory, tmp_path, value, lower, upper):
    """The evaluation with this cross-fitted FQE for every policy."""
    found = load_evaluation(directory)
    estimate = Estimate(value=value, lower=lower, upper=upper, method="made up")
    policies = [
        one.model_copy(
            update={"estimates": one.estimates | {"fqe_cross_fitted": estimate, "observed": estimate}}
        )
        for one in found.policies
    ]
    file = tmp_path / "evaluation.json"
    file.write_text(found.model_copy(update={"policies": policies}).model_dump_json())
    return tmp_path


def test_the_table_fits_80_columns_and_breaks_no_number(evaluated, tmp_path):
    directory = edited(evaluated[1], tmp_path, -12.67, -13.31, 14.98)
    text = printed(directory)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("-12.67 [-13.31, 14.98]") == len(load_evaluation(directory).policies)
    assert "WDR" not in text and "WDR" in printed(directory, wide=True)


def test_the_verdict_says_which_version_it_is_about(evaluated, tmp_path):
    found = load_evaluation(evaluated[1])
    assert "Verdict: " in printed(evaluated[1]) and "the policy as it acts" in printed(evaluated[1])
    frozen = found.model_copy(update={"frozen": "clinicians x exp(Q / 5)"})
    (tmp_path / "evaluation.json").write_text(frozen.model_dump_json())
    said = printed(tmp_path)
    assert f"Verdict: {found.verdict.label}" in said
    assert "  about the version that validation froze: clinicians x exp(Q / 5)" in said
    page = render_page(frozen, {})
    assert "the version that validation froze: clinicians × exp(Q / 5)." in page
    assert "version that validation froze" not in render_page(found, {})


@pytest.mark.parametrize("length", [12, 39, 90])
def test_no_name_in_a_table_is_broken(length):
    name = "x" * length
    rows = [[name, "11.25 [9.11, 13.39]", "1.0", "[0, 1)"], ["short", "", "243.1", "a sentence " * 12]]
    with console.capture() as captured:
        print_rows(("run", "value", "ESS", "what it says"), rows)
    lines = captured.get().splitlines()
    assert sum(name in line for line in lines) == 1
    assert any(line.strip() == name for line in lines) == (length > 12)  # else it has room beside its cells
    assert max(len(line) for line in lines if name not in line) <= 80
    text = " ".join(captured.get().split())
    assert all(" ".join(cell.split()) in text for cell in (*rows[0], "243.1"))
    assert text.count("a sentence") == 12


@pytest.mark.parametrize("value", [104.2, -120.39, None])
def test_an_estimate_that_failed_is_not_printed_as_a_number(evaluated, tmp_path, value):
    directory = edited(evaluated[1], tmp_path, value, -2739.22, 2947.63)
    for wide in (False, True):
        text = printed(directory, wide=wide)
        assert "2947" not in text and "failed: undefined, outside the attainable range of -15 to 15" in text


def test_a_published_metric_that_failed_is_explained_without_a_table(evaluated, tmp_path):
    found = load_evaluation(evaluated[1])
    old = found.published.model_copy(update={"fqe_mean": 21.4, "fqe_lower": 21.3, "fqe_upper": 21.5})
    changed = found.model_copy(update={"published": old, "policies": [], "frozen": None})
    (tmp_path / "evaluation.json").write_text(json.dumps(changed.model_dump(mode="json")))
    assert "FQE failed" in (text := printed(tmp_path)) and "failed: undefined, outside" in text


def test_an_interval_ends_where_returns_end(evaluated, tmp_path):
    directory = edited(evaluated[1], tmp_path, -1.64, -119.44, 116.15)
    assert "-1.64 [-15.00, 15.00]" in printed(directory)


def test_the_time_left_of_a_sweep_that_goes_on_is_judged_by_what_is_made_now(tmp_path, monkeypatch):
    """Two runs, of which one goes on at epoch 151 of 200 and takes 10 s an epoch: 48 epochs and 200 are left."""
    now = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("sepsis_cql.commands.sweep.time.perf_counter", lambda: next(now))
    bar = RunsBar(tmp_path)
    bar.total = 2
    job = SimpleNamespace(runs=[SimpleNamespace(out=tmp_path / "one")], is_done=lambda: False)
    for epoch in (151, 152):
        bar.report(job, SimpleNamespace(epoch=epoch, epochs=200))
    assert bar.tasks[0].description == "about 41 min left; one, epoch 152 of 200"


def test_a_bar_knows_what_is_left():
    work = Work("evaluate")
    work("first", 3)
    work("second", 2)
    (task,) = work.tasks
    assert (task.description, task.completed, task.total) == ("evaluate: second", 1, 4)


def test_weights_on_one_episode_are_no_estimate(evaluated, tmp_path):
    found = load_evaluation(evaluated[1])
    estimate = Estimate(value=14.26, lower=13.43, upper=14.88, method="made up")
    for ess, text in ((1.0, "failed"), (2.0, "14.26 [13.43, 14.88]")):
        one = found.policies[0].model_copy(
            update={
                "estimates": found.policies[0].estimates | {"wis": estimate},
                "weights": found.policies[0].weights.model_copy(update={"ess": ess}),
            }
        )
        (tmp_path / "evaluation.json").write_text(
            found.model_copy(update={"policies": [one]}).model_dump_json()
        )
        assert text in next(
            line for line in printed(tmp_path, wide=True).splitlines() if "as it acts" in line
        )


def test_runs_are_listed_with_their_verdict_and_damaged_ones_as_such(evaluated, tmp_path):
    shutil.copytree(evaluated[1], tmp_path / "one")
    shutil.copytree(evaluated[1], tmp_path / "export" / "copy")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "training.json").write_text("{}")
    first, second = json.loads(call("runs", tmp_path, "--json").stdout)["runs"]
    assert max(map(len, call("runs", tmp_path).stdout.splitlines())) <= 80
    assert (first["directory"], first["says"].split(": ")[1].split(",")[0]) == ("one", "cannot be identified")
    assert first["replay"] == load_evaluation(evaluated[1]).replay.fingerprint[:8]
    assert (second["directory"], second["command"]) == ("two", "train") and "not readable" in second["says"]
    (tmp_path / "empty").mkdir()
    assert "no training.json" in call("runs", tmp_path / "empty").stdout
    with pytest.raises(SepsisCQLError, match="not found"):
        app(["runs", str(tmp_path / "nothing")], standalone_mode=False)
