"""Every pair of commands on one directory: one works and the other is told; what dead processes held is free."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sepsis_cql.benchmarks.attacks.kills import IN_PLACE
from sepsis_cql.benchmarks.attacks.processes import (
    EVALUATION,
    Command,
    Tally,
    as_options,
    commands,
    facts_of,
    into,
    readers,
    run,
    run_all,
    unfinished,
)
from sepsis_cql.common.ownership import STAGES, one_writer, user_directory
from sepsis_cql.common.storage import read_json
from sepsis_cql.training.sweep.ledger import read_ledger

OLD = (b"", b"\0" * 50, b'{"pid": 1}', b"[" * 5000, b'{"pid": 1, "command": "build", "since": "long ago"}')
NO_LONGER = "already"  # a second command that begins after the first has ended is told so, too


def attack(prepared: Path, place: Path, seed: int, times: int, hub: Any) -> Tally:
    """Try every holder with every command, dead holders, and real pairs so many times each."""
    tally, rng = Tally(), random.Random(seed)
    known = commands(prepared)
    _holders(known, place, tally)
    _dead(known, place, tally, rng)
    for name, arguments in known.items():
        whole = facts_of(place / f"stale {name}")
        for number in range(times):
            out = place / f"pair {name} {number}"
            allowed = ([0, 2], [0, 0]) if name in IN_PLACE else ([0, 2],)
            _pair(f"two {name}", [into(arguments, out)] * 2, place, tally, rng, _same(whole, out), allowed)
    for name, arguments in readers(prepared).items():
        ends = [one.wait() for one in [Command(arguments, place / f"log {n}") for n in range(2 * times)]]
        says = {(ended.code, ended.text) for ended in ends if ended}
        wrong = "" if len(says) == 1 and "Traceback" not in str(says) else f"says {says}"
        tally.note(f"{2 * times} {name} at once", wrong)
    for number in range(times):
        _resumed(known["train"], place, tally, rng, number)
        _scored(prepared, place, tally, rng, number)
        _pushed(prepared, place, tally, rng, number, hub)
    return tally


def _holders(known: dict[str, list[Any]], place: Path, tally: Tally) -> None:
    out = place / "held"
    writers = {name: arguments for name, arguments in known.items() if name != "audit"}  # writes a part of it
    for holder in STAGES:
        with one_writer(out, holder):
            ends = run_all([into(arguments, out) for arguments in writers.values()])
        for name, ended in zip(writers, ends, strict=True):
            text = " ".join(ended.text.split())
            is_told = ended.code == 2 and f"`sepsis-cql {holder}` (process {os.getpid()}, since " in text
            wrong = "" if is_told else f"not told who writes there ({ended.code}): {text[-300:]}"
            tally.note(f"{name} while {holder} writes", wrong)
        tally.note(f"while {holder} writes", "written nevertheless" if list(place.iterdir()) else "")


def _dead(known: dict[str, list[Any]], place: Path, tally: Tally, rng: random.Random) -> None:
    """A holder that was killed, and lock files that hold anything at all, stop nobody."""
    for name, arguments in known.items():
        out = place / f"stale {name}"
        process = Command(into(arguments, out), place / "log")
        locks = user_directory("locks")
        process.wait(until=60, look=lambda locks=locks, process=process: (  # type: ignore[misc]
            process.end(signal.SIGKILL) if any(locks.iterdir()) else None))  # fmt: skip
        for file in locks.iterdir():
            file.write_bytes(rng.choice(OLD))
        if out.exists():  # begun bit by bit
            shutil.rmtree(out)
        ended = run(into(arguments, out), place / "log")
        wrong = f"stopped by a dead process: {ended.text[-300:]}" if ended.code else ""
        if left := unfinished(place):
            wrong = wrong or f"left {left}"
        tally.note(f"{name} after a killed {name}", wrong)


def _pair(
    case: str,
    both: list[list[Any]],
    place: Path,
    tally: Tally,
    rng: random.Random,
    check: Callable[[list[int]], str],
    allowed: tuple[list[int], ...] = ([0, 2],),
) -> None:
    """Begin two commands within a few milliseconds."""
    delays = [rng.uniform(0, 0.05) for _ in both]
    running = [
        Command(arguments, place / f"log {number}", delay)
        for number, (arguments, delay) in enumerate(zip(both, delays, strict=True))
    ]
    ends = [process.wait() for process in running]
    codes = [ended.code for ended in ends if ended]
    told = " ".join(" ".join(ended.text.split()) for ended in ends if ended and ended.code)
    wrong = "" if sorted(codes) in allowed else f"ended with {codes}: {told[-400:]}"
    if not wrong and 2 in codes and "is writing there" not in told and NO_LONGER not in told:
        wrong = f"not told why: {told[-400:]}"
    tally.note(case, wrong or check(codes))


def _same(whole: dict[str, Any], out: Path) -> Callable[[list[int]], str]:
    def check(codes: list[int]) -> str:
        names = {key.split()[0] for key in facts_of(out)}
        other = names ^ {key.split()[0] for key in whole}
        shutil.rmtree(out)
        return f"other files than of one alone: {sorted(other)[:5]}" if other else ""

    return check


def _resumed(arguments: list[Any], place: Path, tally: Tally, rng: random.Random, number: int) -> None:
    """Two `train --resume` in one directory that a killed one left."""
    out = place / f"resumed {number}"
    process = Command([*arguments, "--out", out], place / "log")
    while not list(out.glob("checkpoints/*.safetensors")) and process.wait(until=0) is None:
        pass
    process.end(signal.SIGKILL)
    process.wait()
    alone = read_json(place / "stale train" / "training.json", expected="a record")["weights_sha256"]

    def check(codes: list[int]) -> str:
        epochs = [line for line in (out / "metrics.jsonl").read_text().splitlines() if line]
        found = read_json(out / "training.json", expected="a record")["weights_sha256"]
        if found != alone:
            return "other weights than of one alone"
        return "" if len(epochs) == len(set(epochs)) == 30 else f"{len(epochs)} lines in metrics.jsonl"

    both = [[*arguments, "--out", out, "--resume"]] * 2
    _pair("two train --resume", both, place, tally, rng, check, ([0, 2], [0, 0]))


def _scored(prepared: Path, place: Path, tally: Tally, rng: random.Random, number: int) -> None:
    """Two policies on one test split at once, each with a place of its own, and one ledger for both."""
    ledger = place / f"ledger {number}"
    policies = [f"sepsis_cql.benchmarks.attacks.policies:{name}" for name in ("never", "always")]
    options = [
        "--replay",
        prepared / "replay",
        "--split",
        "test",
        "--ledger",
        ledger,
        *as_options(EVALUATION),
    ]
    both = [
        ["evaluate", "--policy", policy, "--out", place / f"scored {number} {index}", *options]
        for index, policy in enumerate(policies)
    ]

    def check(codes: list[int]) -> str:
        found = len(read_ledger(ledger))
        return "" if found == 1 else f"{found} entries in the ledger"

    _pair("two evaluate --split test", both, place, tally, rng, check)


def _pushed(prepared: Path, place: Path, tally: Tally, rng: random.Random, number: int, hub: Any) -> None:
    """Two pushes of one export to one repository of a Hub on this machine."""
    name = f"someone/pair-{number}"
    both = [["push", name, "--export", place / "stale export", "--tag", "v1"]] * 2

    def check(codes: list[int]) -> str:
        repository = hub.repositories[name]
        if len(repository.history) != 2 or list(repository.tags.values()) != repository.history[1:]:
            return f"{len(repository.history) - 1} commits, tags {list(repository.tags)}"
        return ""

    _pair("two push", both, place, tally, rng, check, ([0, 2], [0, 0]))
