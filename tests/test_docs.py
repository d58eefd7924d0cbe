"""What the pages show runs as it is pasted: commands are understood, Python and tables do what the page says."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.strict import parse_changes
from sepsis_cql.evaluation.policies.load import load_policy, probe_policy
from sepsis_cql.replay.directory import open_replay

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md")))]
QUICK = {
    "resamples": 20,
    "fqe": {"refits": 2, "features": 8, "components": 2},
    "behavior": {"models": ["multinomial logistic"]},
    "clinician_shares": [0.9],
    "tilt_temperatures": [5.0],
}


def blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page):
    """The arguments of every `sepsis-cql` in the shell blocks of a page."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    for part in re.split(r"&&|;|\|", "\n".join(line.split(" #")[0] for line in lines).replace("\n", ";")):
        words = shlex.split(part)
        if words[:1] == ["sepsis-cql"]:
            yield words[1:]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_understood(page):
    group = get_command(app)
    for name, *arguments in commands(page):
        group.commands[name].make_context(name, arguments)  # refuses options that there are not


def test_the_pages_of_users_show_commands():
    assert len(list(commands("docs/quickstart.md"))) > 5 and len(list(commands("docs/howto.md"))) > 15


def test_the_python_of_the_pages_on_own_policies_runs(demo_replay, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "replay").symlink_to(demo_replay)
    (written,) = blocks("docs/api.md", "python")
    code = written.replace('changes={"resamples": 200}', f"changes={QUICK!r}")
    assert code != written
    space = {}
    exec(code, space)
    assert space["found"].verdict.label == "cannot be identified"
    assert (tmp_path / "evaluation" / "report.html").is_file()
    exec(blocks("docs/howto.md", "python")[0], space)
    probe_policy(load_policy(space["act"], name="mine"), open_replay(demo_replay))


def test_the_python_of_the_quick_start_runs(capsys):
    scored, played = blocks("docs/quickstart.md", "python")
    exec(scored.replace("morpeN1/mimic-sepsis-cql", str(ROOT)), {})
    assert "'unit': 'mL'" in capsys.readouterr().out
    space = {}
    exec(played, space)
    assert space["observation"].shape == (62,) and not space["terminated"]


def test_every_page_can_be_reached_in_the_navigation_of_the_site():
    named = re.findall(r"\S+\.md$", (ROOT / "mkdocs.yml").read_text().partition("nav:")[2], re.MULTILINE)
    pages = {file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert sorted(named) == sorted(pages - {"results.md"})  # which belongs to the card


def test_the_quick_start_makes_the_tables_of_the_shipped_study():
    study = yaml.safe_load((ROOT / "configs" / "study_published.yaml").read_text())
    build = json.loads((ROOT / "model" / "evidence" / "build_report.json").read_text())
    (options,) = (line for line in commands("docs/quickstart.md") if line[0] == "synthesize")
    given = dict(zip(options[1::2], options[2::2], strict=True))
    assert int(given["--patients"]) == study["patients"] == build["synthetic"]["patients"]
    assert study["seed"] == build["synthetic"]["seed"] == 1 and "--seed" not in given  # 1 by default
    assert parse_changes([given["--set"]], ["synthetic"])["synthetic"] == study["synthetic"]


def test_the_table_of_the_page_on_audits_has_its_flaws(tmp_path):
    (table,) = blocks("docs/howto.md", "yaml")
    (tmp_path / "table.yaml").write_text(table)
    result = CliRunner().invoke(app, ["audit-claims", str(tmp_path / "table.yaml")])
    kinds = re.findall(r"^! ([a-z ]+):", result.stdout, re.MULTILINE)
    assert kinds == ["few episodes", "unattainable", "initial states", "families differ", "no baseline"]
