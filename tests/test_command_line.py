"""The command line tells mistakes at once and in a few lines."""

import json
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

import sepsis_cql
from sepsis_cql.commands.app import app
from sepsis_cql.commands.lazy import MODULES, load_command
from sepsis_cql.common.errors import SepsisCQLError, SettingsError
from sepsis_cql.common.ownership import write_mark
from sepsis_cql.common.strict import SHIPPED, find_settings, load_settings
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


@pytest.mark.parametrize("name", ["hosp", "ICU"])
def test_a_part_of_the_tables_is_told_from_their_root(tmp_path, name):
    (tmp_path / name).mkdir()
    refused = call("build", "--mimic", tmp_path / name, "--out", tmp_path / "x").exception
    assert "Expected the folder above" in str(refused)


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
