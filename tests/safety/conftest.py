"""The command as a user runs it, and inputs small enough that refusals cost nothing."""

import shutil
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from sepsis_cql.commands.app import main
from sepsis_cql.common.ownership import one_writer
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.replay.interop.exports import write_original
from sepsis_cql.tests.forked import CONTEXT
from sepsis_cql.tests.training.made_up import make_transitions

STAGE_OF = {
    "synthesize": "synthesize",
    "build": "build",
    "concepts": "concepts",
    "train": "train",
    "sweep": "sweep",
    "evaluate": "evaluate",
    "compare": "compare",
    "card": "card",
    "export": "export",
    "export --format pt": "export-pt",
    "export --format space": "export-space",
    "import-checkpoint": "import-checkpoint",
    "reproduce": "reproduce",
}


@pytest.fixture
def command(monkeypatch, capsys):
    """Run `sepsis-cql` with arguments; return its exit code and everything that it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sepsis-cql", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out + printed.err

    return run


@pytest.fixture(scope="session")
def made_inputs(tmp_path_factory):
    """What commands read, each small enough."""
    place = tmp_path_factory.mktemp("inputs")
    folders = ("mimic/hosp", "mimic/icu", "run/replay", "run/training", "run/evaluation", "package")
    for folder in (place / name for name in folders):
        folder.mkdir(parents=True)
        (folder / "kept.txt").write_text("an input")
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copyfile(ROOT / name, place / "package" / name)
    (checkpoint,) = (ROOT / "model").glob("*.pt")
    for file in (checkpoint, checkpoint.with_name(f"{checkpoint.stem}_manifest.json")):
        shutil.copyfile(file, place / file.name)
    shutil.copyfile(SHIPPED / "synthetic.yaml", place / "mine.yaml")
    (place / "run" / "replay" / "provenance.json").write_text("{}")
    write_original(make_transitions(), place / "replay.parquet")
    return place


@pytest.fixture
def inputs(made_inputs, tmp_path):
    """Return, for each command, its arguments without --out and an input that --out must stay apart from."""
    place = shutil.copytree(made_inputs, tmp_path / "inputs")
    mimic, run, package, replay = (place / name for name in ("mimic", "run", "package", "replay.parquet"))
    (checkpoint,) = place.glob("*.pt")
    return {
        "synthesize": (["--config", place / "mine.yaml", "--patients", "60"], place / "mine.yaml"),
        "build": (["--mimic", mimic], mimic),
        "concepts": (["--mimic", mimic], mimic),
        "train": (["--replay", replay], replay),
        "sweep": (["--replay", replay], replay),
        "evaluate": (["--replay", replay, "--policy", package], package),
        "compare": (["--replay", run / "replay"], run / "replay"),
        "card": (["--run", run], run / "replay"),
        "export": (["--run", run], run / "evaluation"),
        "export --format pt": (["--run", run], run / "training"),
        "export --format space": (["--run", run], run / "training"),
        "import-checkpoint": ([place / checkpoint.name], place / checkpoint.name),
        "reproduce": (["--mimic", mimic], mimic),
    }


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A replay of made-up tables, a run of two epochs on it, and its selection."""
    from sepsis_cql.replay.directory import open_replay
    from sepsis_cql.tests.replay.made_up import build, six_septic_patients
    from sepsis_cql.tests.training.made_up import RUNTIME, make_settings
    from sepsis_cql.training.run import train_from_replay
    from sepsis_cql.training.sweep.selection import Evidence, freeze_selection

    place = tmp_path_factory.mktemp("run")
    build(six_septic_patients(), place)
    settings = make_settings(epochs=2)
    train_from_replay(open_replay(place / "replay"), place / "training", settings, RUNTIME)
    freeze_selection(place / "training", Evidence(rule="made up"), place / "selection.json")
    return place


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def hold():
    """Start a process that holds the lock on a place; it is killed at the end."""
    started = []

    def start(place: Path | str, kind: type = str) -> BaseProcess:
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(target=hold_until_killed, args=(kind(place), there))
        process.start()
        started.append(process)
        assert here.recv() == "held"
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def hold_until_killed(place, there):
    with one_writer(place, "build"):
        there.send("held")
        time.sleep(60)


def here():
    """Environment in which a new process imports this checkout."""
    import os

    return os.environ | {"PYTHONPATH": str(ROOT.parent)}


def tree(directory):
    """Return every path below a directory with its content."""
    return {
        path: path.read_bytes() if path.is_file() else path.is_symlink()
        for path in sorted(directory.rglob("*"))
    }


def wait_for(condition):
    """Wait until a fact holds."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited for half a minute")
