"""Every command killed, or stopped by Ctrl-C, at random moments, and then run again.

A case holds where the same command then gives the same result as one that nobody disturbed, leaves nothing unfinished,
and where nothing that is private or half-written could be read by other users at any moment that was looked at.
"""

import os
import random
import shutil
import signal
from pathlib import Path

from sepsis_cql.benchmarks.attacks.processes import (
    Command,
    Ended,
    Tally,
    commands,
    facts_of,
    into,
    readable_by_others,
    readers,
    run,
    unfinished,
)

PRIVATE = ("build", "concepts")  # what they make holds rows of patients
STEPWISE = ("train", "sweep", "compare")  # write bit by bit, and continue with --resume
IN_PLACE = ("calibrate", "reproduce", "audit")  # likewise, by the same command
SAYS_SO = "resumed_from_epoch"
SIGNALS = (signal.SIGKILL, signal.SIGINT)


def attack(prepared: Path, place: Path, seed: int, times: int) -> Tally:
    """Kill each command of `prepared` so many times by each signal, in `place`."""
    tally, rng = Tally(), random.Random(seed)
    for name, arguments in commands(prepared).items():
        first, second = (run(into(arguments, place / f"{name} {n}"), place / "log") for n in (1, 2))
        for ended in (first, second):
            if ended.code:
                tally.note(name, f"undisturbed, it failed: {ended.text[-500:]}")
        whole, again = (facts_of(place / f"{name} {n}") for n in (1, 2))
        stable = {
            key: value
            for key, value in whole.items()
            if again.get(key) == value and not key.endswith(SAYS_SO)  # a record owns up to a resumption
        }
        for number in range(times * len(SIGNALS)):
            folder = place / f"killed {name} {number}"
            folder.mkdir()
            moment = rng.uniform(0, 1.05 * first.seconds)
            sent = SIGNALS[number % len(SIGNALS)]
            wrong = _kill(name, arguments, folder, moment, sent, stable, set(whole))
            tally.note(f"{name}, {sent.name} after {moment:.3f} of {first.seconds:.3f} s", wrong)
            shutil.rmtree(folder)
    for name, arguments in readers(prepared).items():
        _stop_reading(name, arguments, prepared, place, tally, rng, times)
    return tally


def _stop_reading(
    name: str,
    arguments: list[object],
    prepared: Path,
    place: Path,
    tally: Tally,
    rng: random.Random,
    times: int,
) -> None:
    """Kill a command that only reads: what it read is as it was, nothing is left, and it says the same again."""
    undisturbed, before = run(arguments, place / "log"), facts_of(prepared)
    if undisturbed.code not in (0, 1):  # 1: it found what it looks for
        tally.note(name, f"undisturbed, it failed: {undisturbed.text[-500:]}")
    for number in range(times * len(SIGNALS)):
        moment, sent = rng.uniform(0, undisturbed.seconds), SIGNALS[number % len(SIGNALS)]
        process = Command(arguments, place / "log")
        ended = process.wait(until=moment)
        if ended is None:
            process.end(sent)
            ended = process.wait()
        assert ended is not None
        wrong = ""
        if "Traceback" in ended.text or ended.code not in (undisturbed.code, 130, -sent):
            wrong = f"ended with {ended.code}: {ended.text[-500:]}"
        again = run(arguments, place / "log")
        if (again.code, again.text) != (undisturbed.code, undisturbed.text):
            wrong = wrong or f"says something else: {again.text[-300:]}"
        if facts_of(prepared) != before or unfinished(prepared):
            wrong = wrong or "changed what it only reads"
        tally.note(f"{name}, {sent.name} after {moment:.3f} of {undisturbed.seconds:.3f} s", wrong)


def _kill(
    name: str,
    arguments: list[object],
    folder: Path,
    moment: float,
    sent: signal.Signals,
    stable: dict[str, object],
    names: set[str],
) -> str:
    """Return what was wrong; nothing where the case held."""
    out, home, temporary, log = folder / "out", folder / "home", folder / "tmp", folder.parent / "log"
    temporary.mkdir()
    before = {key: os.environ.get(key) for key in ("SEPSIS_CQL_HOME", "TMPDIR")}
    os.environ |= {"SEPSIS_CQL_HOME": str(home), "TMPDIR": str(temporary)}
    seen: set[str] = set()

    def look() -> None:
        for file in readable_by_others(folder):
            inside = file.startswith(str(out))
            if not inside or name in PRIVATE:
                seen.add(file.removeprefix(str(folder)))

    try:
        process = Command(into(arguments, out), log)
        ended = process.wait(look, until=moment)
        if ended is None:
            process.end(sent)
            ended = process.wait(look)
        assert ended is not None
        wrong = _badly_stopped(name, ended, sent, folder)
        if process.outlived():
            wrong = wrong or "its workers outlived it"
        last = _again(name, arguments, out, log, look)
        if last.code and not (last.code == 2 and "already exists" in last.text):
            wrong = wrong or f"run again, it ended with {last.code}: {last.text[-500:]}"
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
    found = facts_of(out) if out.is_dir() else {}
    other = sorted(key for key, value in stable.items() if found.get(key) != value)
    other += sorted({key.split()[0] for key in found} ^ {key.split()[0] for key in names})
    if not wrong and other:
        wrong = f"another result than undisturbed: {other[:5]}"
    if not wrong and (left := unfinished(folder)):
        wrong = f"left unfinished: {left[:5]}"
    return wrong or (f"readable by others: {sorted(seen)[:5]}" if seen else "")


def _badly_stopped(name: str, ended: Ended, sent: signal.Signals, folder: Path) -> str:
    if "Traceback" in ended.text or ended.code not in (0, 130, -sent):
        return f"ended with {ended.code}: {ended.text[-500:]}"
    if ended.code == 130 and "interrupted." not in ended.text:
        return f"does not say that it was interrupted: {ended.text[-300:]}"
    if (
        ended.code == 130
        and name not in (*STEPWISE, *IN_PLACE)
        and (left := sorted(path.name for path in folder.iterdir()))
    ):
        if more := [file for file in left if file not in ("home", "tmp")]:
            return f"Ctrl-C left {more}"
        return f"Ctrl-C left {found}" if (found := unfinished(folder)) else ""
    return ""


def _again(name: str, arguments: list[object], out: Path, log: Path, look: object) -> Ended:
    more = ["--resume"] if name in STEPWISE and out.is_dir() and any(out.iterdir()) else []
    ended = Command([*into(arguments, out), *more], log).wait(look)  # type: ignore[arg-type]
    assert ended is not None
    return ended
