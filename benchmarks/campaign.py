"""Attack this checkout: kills, locks, disk, paths, inputs, ledger, leaks, members; cases tried, held and failed.

    python benchmarks/campaign.py              # all classes
    python benchmarks/campaign.py inputs disk  # some

A class is the test files that attack it. A test that goes through a list of cases says how many it tried, in the
counter `TRIED` of its module; any other test is one case. A class has held where none of its tests failed.
"""

import argparse
import sys
from collections import Counter

import pytest

from sepsis_cql.common.provenance import ROOT

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
    "ledger": ["safety/test_ledger.py"],
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
    chosen = parser.parse_args().classes or list(CLASSES)
    if unknown := sorted(set(chosen) - set(CLASSES)):
        parser.error(f"found {unknown}, expected some of {list(CLASSES)}")
    rows = [(name, *attack(name)) for name in chosen]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    print(f"\n{'class':<10}{'tried':>8}{'held':>8}{'failed':>8}")
    for name, tried, failed in rows:
        print(f"{name:<10}{tried:>8,}{tried - failed:>8,}{failed:>8,}")
    sys.exit(1 if rows[-1][2] else 0)


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
    """Return the cases that loaded test modules say they tried beyond their number of tests."""
    found = Counter[str]()
    for name, module in list(sys.modules.items()):
        if "tests." in name and isinstance(tried := getattr(module, "TRIED", None), Counter):
            found[name] += sum(tried.values())
    return found


if __name__ == "__main__":
    main()
