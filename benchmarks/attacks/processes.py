"""Commands in processes of their own, forked so that nothing is imported twice, and a small run for them to work on."""

import io
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sepsis_cql.__main__ import main
from sepsis_cql.common.ownership import LOCK, TEMPORARY, list_leftovers
from sepsis_cql.common.provenance import ROOT

HEAVY = (
    "evaluation.comparison.compare",
    "evaluation.comparison.figure",
    "evaluation.evaluate",
    "evaluation.known_truth.calibrate",
    "publishing.export",
    "publishing.membership.audit",
    "replay.build",
    "synthetic.truth",
    "training.run",
    "training.sweep.protocol",
)
for heavy in HEAVY:  # imported before anything is forked, so that every command has it at once
    import_module(f"sepsis_cql.{heavy}")

PATIENTS = 60
TRAINING = ("training.epochs=30", "training.hidden_sizes=[16,16]", "runtime.device=cpu", "runtime.threads=1")
EVALUATION = (
    "evaluation.fqe.refits=2", "evaluation.fqe.features=8", "evaluation.fqe.components=2", "evaluation.resamples=20",
    "evaluation.behavior.models=[multinomial logistic]", "evaluation.clinician_shares=[0.5]",
    "evaluation.tilt_temperatures=[]",
)  # fmt: skip


@dataclass
class Tally:
    """Cases of a class: how many were tried, and what was wrong with those that did not hold."""

    tried: int = 0
    failed: int = 0

    def note(self, case: str, wrong: str) -> None:
        """Count a case; `wrong` is empty where it held."""
        self.tried += 1
        if wrong:
            self.failed += 1
            print(f"  {case}: {wrong}", flush=True)


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative for a signal, what it printed, and seconds it took."""

    code: int
    text: str
    seconds: float


class Command:
    """One command in a process of its own."""

    def __init__(self, arguments: list[Any], log: Path, delay: float = 0.0) -> None:
        self.log, self.began = log, time.monotonic()
        sys.stdout.flush()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the command heeds it
        self.pid = os.fork()
        if self.pid == 0:
            _become([str(argument) for argument in arguments], log, delay)
        with suppress(OSError):  # it has done so itself, or has ended
            os.setpgid(self.pid, self.pid)
        signal.signal(signal.SIGINT, before)

    def wait(self, look: Callable[[], None] = lambda: None, until: float = 1e9) -> Ended | None:
        """Look around until the process has ended, or, after that many seconds, return None."""
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            seconds = time.monotonic() - self.began
            if found:
                text = self.log.read_text(errors="replace") if self.log.exists() else ""
                return Ended(os.waitstatus_to_exitcode(status), text, seconds)
            if seconds >= until:
                return None
            look()
            time.sleep(0.004)

    def end(self, number: signal.Signals) -> None:
        """Send a signal; Ctrl-C goes to the workers of the command as well, as from a terminal."""
        if number == signal.SIGINT:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def outlived(self, seconds: float = 20) -> bool:
        """Whether workers of the command still run so long after it has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.02)
        return True


def run(arguments: list[Any], log: Path, delay: float = 0.0) -> Ended:
    """Run a command to its end."""
    ended = Command(arguments, log, delay).wait()
    assert ended is not None
    return ended


def run_all(many: list[list[Any]]) -> list[Ended]:
    """Run commands that are refused one after the other in one process."""
    sys.stdout.flush()
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        found: list[tuple[int, str]] = []
        for arguments in many:
            printed = io.StringIO()
            sys.argv = ["sepsis-cql", *map(str, arguments)]
            with redirect_stdout(printed), redirect_stderr(printed):
                try:
                    code: Any = 0
                    main()
                except SystemExit as ended:
                    code = ended.code
                except BaseException:
                    traceback.print_exc()
                    code = 1
            found.append((int(code or 0), printed.getvalue()))
        with os.fdopen(write, "w") as stream:
            json.dump(found, stream)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        ends = [Ended(code, text, 0.0) for code, text in json.load(stream)]
    os.waitpid(pid, 0)
    return ends


def _become(arguments: list[str], log: Path, delay: float) -> None:
    """Be the command; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        os.umask(0o022)
        os.dup2(os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), 1)
        os.dup2(1, 2)
        time.sleep(delay)
        sys.argv = ["sepsis-cql", *arguments]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except KeyboardInterrupt:  # after the command has ended
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdout.flush()
        os._exit(code)


COMPARISON = """\
seeds: [42]
schedule: {epochs: 3, batch_size: 256, hidden_sizes: [16]}
epsilon: 0.5
support_threshold: 0.01
grids: {cql: {alpha: [0.1]}, behavior_cloning: {learning_rate: [0.001]}}
"""
CALIBRATION = """\
repetitions: 4
seed: 1
resamples: 50
refits: 20
truth_episodes: 1000
repeated_truth_episodes: 1000
intervals: [bca]
behavior_refits: 0
behavior_models: [multinomial logistic]
cases:
  tiny: {environment: icu-sepsis, training: 100, scored: 100, behavior: estimated, policies: {optimal: [1.0]}}
"""
CLAIMS = """\
source: made up
attainable: [-15, 15]
n_episodes: 380
rows:
  - {policy: learned, role: learned, estimator: wis, value: 15.7, ess: 10.2}
  - {policy: clinicians, role: clinicians, estimator: observed, value: 9.1}
"""


def prepare(place: Path) -> None:
    """Make a run in `place`: simulated tables, replay, training and evaluation; and what further commands read.

    Raises:
        SystemExit: a stage failed.
    """
    for name, text in (("comparison", COMPARISON), ("calibration", CALIBRATION), ("claims", CLAIMS)):
        (place / f"{name}.yaml").write_text(text)
    for stage in stages(place):
        ended = run([*stage, "--out", place / {"synthesize": "mimic", "build": "replay", "train": "training",
                                               "evaluate": "evaluation"}[stage[0]]], place / "log")  # fmt: skip
        if ended.code:
            sys.exit(f"{stage[0]} failed:\n{ended.text}")


def stages(place: Path) -> list[list[Any]]:
    """Return the commands that make a run, without --out."""
    return [
        ["synthesize", "--patients", PATIENTS],
        ["build", "--mimic", place / "mimic"],
        ["train", "--replay", place / "replay", *as_options(TRAINING)],
        ["evaluate", "--replay", place / "replay", "--policy", place / "training" / "package", "--split", "validation",
         *as_options(EVALUATION)],
    ]  # fmt: skip


def commands(place: Path) -> dict[str, list[Any]]:
    """Return, by name, the commands that write a directory, without --out; their inputs are the run in `place`."""
    (checkpoint,) = (place / "training" / "model").glob("*.pt")
    found = {stage[0]: stage for stage in stages(place)}
    grid = [
        "sweep.grid.learning_rate=[0.001]",
        "sweep.grid.reward_variant=[sparse]",
        "sweep.grid.alpha=[0.1]",
        "sweep.top=1",
        "sweep.stage2_seeds=[7]",
        "training.epochs=4",
        "training.hidden_sizes=[16]",
    ]
    study = [
        *grid,
        *EVALUATION,
        "study.reference=null",
        "evaluation.truth_episodes=100",
        "runtime.device=cpu",
    ]
    rules = ["--config", place / "comparison.yaml", *as_options(EVALUATION), "--set=runtime.device=cpu"]
    return found | {
        "concepts": ["concepts", "--mimic", place / "mimic"],
        "sweep": ["sweep", "--replay", place / "replay", "--metric", "published", *as_options(grid)],
        "compare": ["compare", "--replay", place / "replay", *rules],
        "calibrate": ["calibrate", "--config", place / "calibration.yaml", "--jobs", 2],
        "reproduce": ["reproduce", "--patients", PATIENTS, *as_options(study)],
        "audit": ["audit", "--run", place],
        "export": ["export", "--run", place],
        "export --format pt": ["export", "--run", place, "--format", "pt"],
        "card": ["card", "--run", place],
        "import-checkpoint": ["import-checkpoint", checkpoint],
    }


def readers(place: Path) -> dict[str, list[Any]]:
    """Return, by name, commands that only read the run in `place`."""
    return {
        "audit-claims": ["audit-claims", place / "claims.yaml"],
        "runs": ["runs", place],
        "doctor": ["doctor", "--replay", place / "replay"],
        "report": ["report", ROOT, "--format", "tripod-ai"],
    }


def into(arguments: list[Any], out: Path) -> list[Any]:
    """Return a command that writes `out`; an audit writes into a copy of its run, which is made."""
    if arguments[0] != "audit":
        return [*arguments, "--out", out]
    if not out.exists():
        for part in ("replay", "training"):
            shutil.copytree(arguments[-1] / part, out / part, copy_function=os.link)
    return ["audit", "--run", out]


def as_options(changes: Any) -> list[str]:
    """Return changes of settings as options of a command."""
    return [f"--set={change}" for change in changes]


def unfinished(*places: Path) -> list[str]:
    """Return what is left unfinished below some places."""
    return [path.name[:60] for place in places for path in list_leftovers(place)]


def readable_by_others(place: Path) -> Iterator[str]:
    """Yield files below `place` that another user could open now, unless they are whole and meant for others."""
    for folder, names, files in os.walk(place):
        try:
            mode = Path(folder).stat().st_mode
        except OSError:
            continue
        if folder != str(place) and not mode & 0o011:
            names.clear()
            continue
        for name in files:
            if name.startswith(LOCK):  # for others to see; it says who writes, and nothing else
                continue
            try:
                if Path(folder, name).lstat().st_mode & 0o044:
                    yield f"{folder}/{name}"
            except OSError:
                continue
        if TEMPORARY in folder:
            yield folder


def facts_of(directory: Path) -> dict[str, Any]:
    """Return what every file of a directory holds: bytes, and of JSON each value by its path.

    Lines of repetitions are told apart by their number: workers end in any order.
    """
    found: dict[str, Any] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        if path.suffix in (".json", ".jsonl"):
            for number, line in enumerate(
                [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
            ):
                values = json.loads(line)
                of = f"repetition {values['repetition']}" if "repetition" in values else number
                found |= _leaves(values, f"{name} {of}")
        else:
            found[name] = path.read_bytes()
    return found


def _leaves(value: Any, place: str) -> dict[str, Any]:
    if isinstance(value, dict):
        inner = [_leaves(item, f"{place}.{key}") for key, item in value.items()]
        return {key: leaf for found in inner for key, leaf in found.items()} | {place: len(value)}
    return {place: value}
