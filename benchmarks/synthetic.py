"""Speed of the simulated ICU and of writing its tables, against merely decompressing and parsing the tables.

    python benchmarks/synthetic.py --out FILE.json

The floor is what any reader of the tables must pay: inflating each csv.gz and splitting it into columns.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as pacsv

from sepsis_cql.common.storage import write_json
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.settings import load_synthetic_settings
from sepsis_cql.synthetic.simulator import SimulatedICU, simulate

EPISODES, PATIENTS = 10_000, 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write.")
    parser.add_argument("--repeats", type=int, default=3, help="Runs of each task; the fastest counts.")
    arguments = parser.parse_args()
    settings = load_synthetic_settings()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "mimic"
        simulating = least_seconds(lambda: simulate(SimulatedICU(settings, EPISODES, 1)), arguments.repeats)
        writing = least_seconds(
            lambda: synthesize(root, PATIENTS, 1, settings, force=True), arguments.repeats
        )
        parsing = least_seconds(lambda: parse(root), arguments.repeats)
        size = sum(file.stat().st_size for file in root.rglob("*.csv.gz"))
    result = {
        "episodes_per_minute": EPISODES / simulating * 60,
        "synthesize_seconds": writing,
        "patients": PATIENTS,
        "compressed_bytes": size,
        "parse_floor_seconds": parsing,
        "times_floor": writing / parsing,
        "cores": os.cpu_count(),
    }
    write_json(arguments.out, result)
    for name, value in result.items():
        print(f"{name:>20} {value:,.2f}")


def least_seconds(task: Callable[[], object], repeats: int) -> float:
    """Wall seconds of the fastest of several runs."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def parse(root: Path) -> None:
    """Inflate and split every table on one thread."""
    for file in root.rglob("*.csv.gz"):
        pacsv.read_csv(file, pacsv.ReadOptions(use_threads=False))


if __name__ == "__main__":
    main()
