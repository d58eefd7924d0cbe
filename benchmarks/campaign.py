"""Attack this checkout: kills, locks, disk, paths, inputs, ledger, leaks, members; cases tried, held and failed.

    python benchmarks/campaign.py              # all classes
    python benchmarks/campaign.py inputs disk  # some
    python benchmarks/campaign.py kills --seed 7 --times 10
    python benchmarks/campaign.py --out benchmarks/campaign.json   # all, and keep the figures, each class's by itself

A class is the test files that attack it. A test that goes through a list of cases says how many it tried, in the
counter `TRIED` of its module; any other test is one case. Locks, kills and leaks have besides, in `attacks`, cases
drawn by --seed on a small simulated run. A case has held where its test, or it itself, did not fail.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.storage import read_json, write_json

CLASSES = {
    "force": ["safety/test_force.py"],
    "locks": ["safety/test_one_writer.py"],
    "kills": ["safety/test_interrupts.py", "training/test_interruption.py"],
    "disk": ["safety/test_writes_that_fail.py"],
    "paths": ["safety/test_paths.py"],
    "inputs": [
        "safety/test_bad_records.py",
        "safety/test_bad_tables.py",
        "safety/test_bad_options.py",
        "safety/test_messages.py",
        "model/test_unsafe_checkpoints.py",
    ],
    "ledger": ["safety/test_ledger.py", "safety/test_splits.py", "safety/test_identity.py"],
    "leaks": [
        "publishing/test_guard.py",
        "publishing/test_disclosure.py",
        "synthetic/test_disclosure_of_a_replay.py",
    ],
    "members": ["publishing/test_membership.py"],
}


class Count:
    """Counts the outcomes of tests by file, as a plugin of pytest."""

    def __init__(self) -> None:
        self.passed, self.failed = Counter[str](), Counter[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that ended, or that failed before it began."""
        file = report.nodeid.partition("::")[0].partition("tests/")[2]
        if report.failed:
            self.failed[file] += 1
        elif report.when == "call" and report.passed:
            self.passed[file] += 1


def main() -> None:
    """Run the classes and print a table; exit code 1 where a case failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("classes", nargs="*", help=f"of {', '.join(CLASSES)}; all of them by default")
    parser.add_argument("--seed", type=int, default=1, help="of the cases that are drawn")
    parser.add_argument("--times", type=int, default=3, help="kills by each signal and races of each command")
    parser.add_argument("--out", type=Path, help="JSON file that receives the figures")
    given = parser.parse_args()
    began = time.monotonic()
    chosen = given.classes or list(CLASSES)
    if unknown := sorted(set(chosen) - set(CLASSES)):
        parser.error(f"found {unknown}, expected some of {list(CLASSES)}")
    drawn = draw(chosen, given.seed, given.times)  # first, since processes are forked from this one
    rows = []
    for name in chosen:
        tried, failed = attack(name)
        more = drawn.get(name, (0, 0))
        rows.append((name, tried + more[0], failed + more[1]))
    found = {name: {"tried": tried, "held": tried - failed, "failed": failed} for name, tried, failed in rows}
    print(f"\nseed {given.seed}\n{'class':<10}{'tried':>8}{'held':>8}{'failed':>8}")
    for name, row in (found | {"all": _sum(found)}).items():
        print(f"{name:<10}{row['tried']:>8,}{row['held']:>8,}{row['failed']:>8,}")
    if given.out is not None:
        _record(given.out, found, {"seed": given.seed, "times": given.times}, time.monotonic() - began)
    sys.exit(1 if _sum(found)["failed"] else 0)


def _record(file: Path, found: dict[str, dict[str, int]], drawn: dict[str, int], seconds: float) -> None:
    """Write the figures, each class with its day, beside those of other classes."""
    earlier = read_json(file, expected="figures of this campaign")["classes"] if file.exists() else {}
    facts: dict[str, Any] = {
        **drawn,
        "day": f"{datetime.now(UTC):%F}",
        "python": platform.python_version(),
        "minutes": round(seconds / 60),
    }
    classes = earlier | {name: row | facts for name, row in found.items()}
    classes = {name: classes[name] for name in CLASSES if name in classes}
    write_json(file, {"classes": classes, "all": _sum(classes)})


def _sum(classes: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {key: sum(row[key] for row in classes.values()) for key in ("tried", "held", "failed")}


def draw(chosen: list[str], seed: int, times: int) -> dict[str, tuple[int, int]]:
    """Run the drawn cases of the chosen classes; return how many were tried and failed, by class."""
    if not {"locks", "kills", "leaks"} & set(chosen):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        place, hub = Path(folder), start_hub(Path(folder))
        os.environ |= {"SEPSIS_CQL_HOME": str(place / "home")}
        from sepsis_cql.benchmarks.attacks import kills, leaks, locks, processes

        (place / "run").mkdir()
        processes.prepare(place / "run")
        found = {}
        for name in chosen:
            here = place / name
            here.mkdir()
            if name == "locks":
                tally = locks.attack(place / "run", here, seed, times, hub)
            elif name == "kills":
                tally = kills.attack(place / "run", here, seed, times)
            elif name == "leaks":
                tally = leaks.attack(place / "run", here, seed, 4 * times)
            else:
                continue
            print(f"{name}: {tally.tried} cases drawn by seed {seed}, {tally.failed} failed", flush=True)
            found[name] = tally.tried, tally.failed
    return found


def start_hub(home: Path) -> Any:
    """Start the Hub of the tests on this machine, and let every client that is imported later know no other."""
    from sepsis_cql.tests.publishing.hub_server import TOKEN, HubServer

    hub = HubServer()
    os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hub"), "HF_TOKEN": TOKEN}
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return hub


def attack(name: str) -> tuple[int, int]:
    """Run the tests of a class; return how many cases were tried and how many tests failed."""
    files, count, before = CLASSES[name], Count(), tried_in_modules()
    pytest.main(
        ["-q", "-p", "no:cacheprovider", *(str(ROOT / "tests" / file) for file in files)], plugins=[count]
    )
    listed = tried_in_modules() - before
    tests = sum(count.passed.values()) + sum(count.failed.values())
    return tests + sum(listed.values()), sum(count.failed.values())


def tried_in_modules() -> Counter[str]:
    """Return the cases that loaded test modules say they tried beyond their number of tests; each counter once."""
    modules = [module for name, module in list(sys.modules.items()) if "tests." in name]
    counters = {
        id(tried): tried for module in modules if isinstance(tried := getattr(module, "TRIED", None), Counter)
    }
    return Counter({str(key): sum(tried.values()) for key, tried in counters.items()})


if __name__ == "__main__":
    main()
