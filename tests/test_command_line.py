"""The command line tells mistakes at once and in a few lines."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

import sepsis_cql
from sepsis_cql.commands.app import app
from sepsis_cql.commands.evaluate import print_metrics
from sepsis_cql.commands.lazy import MODULES, load_command
from sepsis_cql.commands.output import Work, console, print_rows
from sepsis_cql.commands.sweep import RunsBar
from sepsis_cql.common.errors import EvaluationError, SepsisCQLError, SettingsError
from sepsis_cql.common.ownership import write_mark
from sepsis_cql.common.strict import SHIPPED, find_settings, load_settings
from sepsis_cql.evaluation.policies.load import load_policy, probe_policy
from sepsis_cql.evaluation.record import Estimate, load_evaluation
from sepsis_cql.evaluation.report.page import render_page
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.settings import ReplaySettings

from .conftest import ROOT
from .forked import Fresh

IMPORTED = "from sepsis_cql.commands.app import main"
MAIN = f"{IMPORTED}; main()"
HEAVY = "torch", "transformers", "numpy", "pandas", "duckdb", "pyarrow", "matplotlib", "sklearn", "scipy"
CHECKS = "pydantic", "yaml"
HERE = {"PYTHONPATH": str(ROOT.parent), "PATH": "/usr/bin:/bin"}


def loaded(*names):
    """Code that prints which of these modules are imported."""
    return f"print(sorted(set({names!r}) & set(sys.modules)))"


def call(*options):
    return CliRunner().invoke(app, [str(option) for option in options])


def run(*arguments, cwd=None):
    """Run a Python process that imports this checkout."""
    command = [sys.executable, *map(str, arguments)]
    env = HERE | {"HOME": str(cwd or ROOT)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=env)


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A process that has imported what every command has, and runs each program in a fork."""
    code = f"{IMPORTED}\nimport sepsis_cql.common.strict\n"
    fresh = Fresh(code, tmp_path_factory.mktemp("light"), HERE)
    yield fresh
    fresh.close()


@pytest.mark.parametrize("arguments", [["--version"], ["-h"], ["--help"], ["train", "-h"]])
def test_version_and_help_are_printed(arguments):
    result = call(*arguments)
    assert result.exit_code == 0
    assert (version("sepsis-cql") if arguments == ["--version"] else "Usage:") in result.stdout


def test_the_shell_is_offered_completion():
    assert "--install-completion" in call("--help").stdout


def test_help_and_import_load_no_library_that_computes_or_checks(tmp_path):
    """Help names every command with the first lines of its docstring; only a command that is called is imported."""
    script = (
        f"import sys, sepsis_cql; {loaded(*HEAVY, *CHECKS, 'typer')}; sys.argv = ['sepsis-cql', '--help']\n"
        "from sepsis_cql.commands.app import main\n"
        "try: main()\n"
        f"finally: {loaded(*HEAVY, *CHECKS, 'sepsis_cql.commands.train')}"
    )
    done = run("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[]\n") and done.stdout.endswith("[]\n"), done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_every_command_is_listed_as_its_docstring_begins_and_has_help(name):
    begin = load_command(name).__doc__.split()
    top = " ".join(word for word in call("--help").stdout.split() if word != "│")
    assert f"{name} {' '.join(begin[:6])}" in top
    assert "never use it for patient care" in top
    assert call(name, "--help").exit_code == 0


def test_the_package_runs_as_a_module_and_knows_its_version(tmp_path):
    done = run("-m", "sepsis_cql", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"sepsis-cql {version('sepsis-cql')}\n")
    assert sepsis_cql.__version__ == version("sepsis-cql")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sepsis_cql.nothing


def test_gymnasium_knows_the_environment_after_the_package_alone(tmp_path):
    code = (
        "import sys; import sepsis_cql; print('gymnasium' in sys.modules, 'numpy' in sys.modules)\n"
        "import gymnasium; print(gymnasium.spec('sepsis_cql/SepsisICU-v0').id)\n"
        "print('sepsis_cql.synthetic' in sys.modules, gymnasium.make('sepsis_cql/SepsisICU-v0').action_space.n)"
    )
    done = run("-c", code, cwd=tmp_path)
    assert done.stdout.split() == ["False", "False", "sepsis_cql/SepsisICU-v0", "False", "25"], done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --replay nosuch --out x", "nosuch: no provenance.json"),
        ("sweep --replay nosuch --out x", "nosuch: no provenance.json"),
        ("evaluate --replay nosuch --policy a:b --out x", "nosuch: no provenance.json"),
        ("evaluate --replay file --policy nosuch --out x", "nosuch: not found"),
        ("evaluate --replay file --policy nosuch.pt --out x", "nosuch.pt: not found"),
        ("evaluate --replay file --policy nosuch.there:act --out x", "no module named 'nosuch.there'"),
        (
            "evaluate --replay file --policy json:loads --split test --selection nosuch --out x",
            "nosuch: not found",
        ),
        (
            "evaluate --replay file --policy json:loads --selection file --out x",
            "--selection: found --split valid",
        ),
        (
            "evaluate --replay file --policy json:loads --why me --again --out x",
            "or leave --again and --why away",
        ),
        ("train --replay file --out x --resume --force", "found --resume and --force, expected one"),
        ("train --replay file --out typo --resume", "typo: found nothing that `sepsis-cql train` began"),
        ("sweep --replay file --out typo --resume", "typo: found nothing that `sepsis-cql sweep` began"),
        ("train --replay file --out x --config nosuch", "nosuch: not the name of shipped settings"),
        ("train --replay file --out x --runtime cql", "cql: not the name of shipped settings (runtime.cpu"),
        ("calibrate --case foo --out x", "found no case ['foo']"),
        ("build --mimic nosuch --out x", "nosuch: not a directory"),
        ("concepts --mimic nosuch --out x", "nosuch: not a directory"),
        ("reproduce --mimic nosuch --out x", "nosuch: not a directory"),
        ("reproduce --size nosuch --out x", "study_nosuch: not the name of shipped settings"),
        pytest.param(
            "reproduce --engine ray --out x",
            "--engine ray: Ray is not installed",
            marks=pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed"),
        ),
    ],
)
def test_a_mistake_is_told_before_anything_heavy_is_imported(light, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    code = f"import sys\ntry: main()\nfinally: {loaded(*HEAVY)}"
    done = light.run(f"{IMPORTED}\n{code}", tmp_path, *arguments.split(), HOME=str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stdout == "[]\n"
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["file"]


def test_only_what_the_same_command_began_is_continued(tmp_path):
    write_mark(tmp_path, "train")
    from sepsis_cql.commands.early import check_out

    check_out(tmp_path, "train", resume=True)
    check_out(tmp_path / "new", "train", resume=False)
    with pytest.raises(SepsisCQLError, match="found nothing that `sepsis-cql sweep` began"):
        check_out(tmp_path, "sweep", resume=True)


def test_only_shipped_settings_that_fit_an_option_are_offered():
    assert find_settings("behavior_cloning", "algorithm") == SHIPPED / "behavior_cloning.yaml"
    with pytest.raises(SettingsError, match=r"^demo: not the name of shipped settings \(replay\)\."):
        find_settings("demo", "onset_rule")


def test_a_file_of_other_settings_is_refused_in_a_few_words():
    with pytest.raises(SettingsError, match=r"onset_rule: Field required .*; and \d+ more$") as refused:
        load_settings(ReplaySettings, SHIPPED / "demo.yaml")
    assert len(str(refused.value)) < 1000


def test_too_little_memory_is_one_sentence(tmp_path, mimic_demo):
    options = ["build", "--mimic", mimic_demo, "--out", tmp_path / "replay", "--memory-limit", "10MB"]
    done = run("-c", MAIN, *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: The database engine ran out of memory")
    assert "--memory-limit" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "replay").exists()


POLICIES = """
import numpy as np

def good(states): return np.zeros(len(states), dtype=int)
def shares(states): return np.full((len(states), 25), 0.04)
def thirty(states): return np.full(len(states), 30)
def negative(states): return np.full(len(states), -1)
def narrow(states): return np.full((len(states), 24), 1 / 24)
def one_row(states): return np.full(25, 0.04)
def logits(states): return np.tile(np.arange(25.0), (len(states), 1))
def unknown(states): return np.full((len(states), 25), states[:, :1] * np.nan)
def sums(states): return np.tile((states.mean(axis=1) * 0 + 0.04)[:, None], 25)
def fails(states): return states.act()
"""


@pytest.fixture
def policies(tmp_path, monkeypatch):
    (tmp_path / "policies_to_probe.py").write_text(POLICIES)
    monkeypatch.syspath_prepend(tmp_path)
    return "policies_to_probe"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thirty", "returned actions 30 to 30, expected 0 to 24"),
        ("negative", "returned actions -1 to -1, expected 0 to 24"),
        ("narrow", r"returned shape \(4, 24\), expected \(4, 25\)"),
        ("one_row", r"returned shape \(25,\), expected \(4, 25\)"),
        ("logits", "4 of 4 rows are not probabilities .*softmax"),
        ("unknown", "4 of 4 rows are not probabilities"),
        ("sums", "1 of 4 rows are not probabilities"),  # NaN where something was not measured
        ("fails", r"failed on \(4, 62\) made-up states \(AttributeError"),
    ],
)
def test_a_policy_is_probed_before_anything_is_fitted(policies, demo_replay, name, message):
    with pytest.raises(EvaluationError, match=f"policies_to_probe:{name}: {message}"):
        probe_policy(load_policy(f"{policies}:{name}"), open_replay(demo_replay))


@pytest.mark.parametrize("name", ["good", "shares"])
def test_a_policy_that_answers_passes_the_probe(policies, demo_replay, name):
    probe_policy(load_policy(f"{policies}:{name}"), open_replay(demo_replay))


def test_the_network_of_the_root_passes_the_probe(demo_replay):
    probe_policy(load_policy(str(ROOT)), open_replay(demo_replay))


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


@pytest.mark.parametrize("name", MODULES)
def test_every_command_can_be_quiet_or_answer_programs(name):
    printed = call(name, "--help").stdout
    assert "--quiet" in printed and "--json" in printed


def test_quiet_is_nothing_and_json_one_object_whatever_the_exit_code(tmp_path):
    claims = ROOT / "tests" / "evaluation" / "claims" / "sepsis_agent.yaml"
    said, flawed = call("audit-claims", claims), call("audit-claims", claims, "--json")
    assert said.exit_code == flawed.exit_code == 1 and len(json.loads(flawed.stdout)["flaws"]) > 0
    silent = call("audit-claims", claims, "--quiet")
    assert (silent.exit_code, silent.output) == (1, "")
    made = call("synthesize", "--out", tmp_path / "tables", "--patients", 40, "--json")
    assert json.loads(made.stdout)["rows"]["patients"] == 40
    assert call("card", "--out", ROOT, "--check", "--quiet").output == ""
    assert json.loads(call("card", "--out", ROOT, "--check", "--json").stdout)["matches"] is True
    assert "audit-claims" in call("--help").stdout and said.output != ""  # the console speaks again


def test_an_error_leaves_the_output_for_programs_empty(tmp_path):
    done = run("-m", "sepsis_cql", "runs", "nosuch", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: nosuch: not found")


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
