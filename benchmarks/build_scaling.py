"""Processor time, memory and disk of a build at growing sizes, against merely decompressing and parsing the same files.

    python benchmarks/build_scaling.py --mimic DEMO --out DIR --copies 1 8 64

makes tables of any size from the open demo (each copy has its own patients, admissions and stays, and events
four years later than the one before; the 17th is dated as the first), then measures two fresh processes at each size,
one after the other: the floor, and the whole `sepsis-cql build`. Processor time is user and system time of all threads,
which other work on a machine stretches less than the clock's. Disk is the most that the build's directory took, looked
at five times a second. A third process builds once more and tells what each stage took: `before` is what comes before
the first, Python's start and imports. The result goes to DIR/build_scaling.json and to the screen.
"""

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb

from sepsis_cql.common.storage import read_json, sha256_file, write_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.mimic.raw_files import TablesSettings, quote
from sepsis_cql.replay.mimic.sources.folder import open_source

PATIENT_KEYS = {"subject_id", "hadm_id", "stay_id"}
DENSE_KEYS = {"specimen_id", "micro_specimen_id", "microevent_id", "labevent_id"}  # too large to add to
DICTIONARIES = {"d_items", "d_labitems"}
KEY_STEP = 10_000_000  # the demo's keys span less, and 200 copies still fit 32 bits
DAYS_STEP = 1461  # four years with their leap day, so that only the year of a date changes
STAGES = "stages.json"
SHIFTS = 16  # of time, which begin anew, so that no date leaves the years that a build admits


def main() -> None:
    arguments = _arguments()
    if arguments.worker:
        WORKERS[arguments.worker](arguments)
        return
    settings = load_shipped(TablesSettings, "tables.yaml")
    full = sum(table.rows["3.1"] for table in settings.tables.values())
    results = []
    for copies in arguments.copies:
        results.append(measure_size(arguments, copies))
        hours = full / results[-1]["build"]["rows_per_processor_second"] / 3600
        summary = {
            "memory_limit": arguments.memory_limit,
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "sizes": results,
            "rows_of_3.1": full,
            "extrapolated_processor_hours_of_3.1": hours,
        }
        write_json(
            arguments.out / "build_scaling.json", summary
        )  # after every size: a larger one may be stopped
    print(f"MIMIC-IV 3.1 ({full:,} rows) at the rate of the largest size: {hours:.2f} h of one processor")


def measure_size(arguments: argparse.Namespace, copies: int) -> dict:
    """Least processor and wall seconds and largest peaks of memory and disk of each task on so many copies."""
    root = arguments.out / f"copies-{copies}"
    if not root.exists():
        run("multiply", arguments, arguments.mimic, root, copies)
    tables = load_shipped(TablesSettings, "tables.yaml").tables
    n_rows = sum(
        table.rows["demo"] * (1 if name in DICTIONARIES else copies) for name, table in tables.items()
    )
    size = sum(file.stat().st_size for file in root.rglob("*.gz"))
    result: dict = {"copies": copies, "rows": n_rows, "compressed_bytes": size}
    runs: dict[str, list[dict[str, float]]] = {"floor": [], "build": []}
    for _ in range(arguments.repeats):  # one after the other, so that other work on the machine meets both
        for task, done in runs.items():
            done.append(run(task, arguments, root, arguments.out / "scratch", copies))
    for task, done in runs.items():
        least = {name: min(each[name] for each in done) for name in ("processor_seconds", "seconds")}
        result[task] = least | {
            name: max(each[name] for each in done) for name in ("peak_mib", "peak_disk_mib")
        }
        times = least["processor_seconds"] / result["floor"]["processor_seconds"]
        result[task] |= {
            "rows_per_processor_second": n_rows / least["processor_seconds"],
            "times_floor": times,
        }
        print(
            f"{copies:>4} copies {n_rows:>12,} rows {task:<9} {least['processor_seconds']:8.2f} s of processor "
            f"{result[task]['peak_mib']:>7,.0f} MiB {times:6.2f} x floor",
            flush=True,
        )
    run("stages", arguments, root, arguments.out / "scratch", copies)
    result["stages"] = read_json(arguments.out / STAGES, expected="seconds of each stage")
    (arguments.out / STAGES).unlink()
    if not arguments.keep:
        shutil.rmtree(root)
    return result


def processor_name() -> str:
    """Model of the processor, as the system names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def run(task: str, arguments: argparse.Namespace, root: Path, out: Path, copies: int) -> dict[str, float]:
    """One task in a fresh process; this one stays small, because a child's peak begins at its parent's."""
    if task != "multiply":
        shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, __file__, "--worker", task, "--mimic", root, "--out", out, "--copies", copies]
    started = time.perf_counter()
    command += ["--memory-limit", arguments.memory_limit] if arguments.memory_limit else []
    process, largest = subprocess.Popen([*map(str, command)]), 0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        largest = max(largest, disk_used(out))
        time.sleep(0.2)
    _, status, usage = ended
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{task} failed on {root} (exit code {process.returncode})")
    if task != "multiply":
        shutil.rmtree(out, ignore_errors=True)
    processor = usage.ru_utime + usage.ru_stime
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "peak_mib": usage.ru_maxrss / 1024,
        "peak_disk_mib": largest / 2**20,
    }


def disk_used(directory: Path) -> int:
    """Bytes of disk under a directory whose files come and go."""
    used = 0
    with contextlib.suppress(FileNotFoundError):
        for file in directory.rglob("*"):
            used += 512 * file.stat().st_blocks
    return used


def multiply(arguments: argparse.Namespace) -> None:
    """Write so many copies of every table of the demo, with all their columns."""
    settings = load_shipped(TablesSettings, "tables.yaml")
    connection = duckdb.connect()
    for name, raw in open_source(str(arguments.mimic), settings).tables.items():
        file = raw.where
        source = f"read_csv({quote(file)}, all_varchar = true, header = true, quote = '\"')"
        header = [row[0] for row in connection.execute(f"DESCRIBE FROM {source}").fetchall()]
        columns = ", ".join(f'{_shifted(column, header)} AS "{column}"' for column in header)
        repeats = 1 if name in DICTIONARIES else arguments.copies[0]
        target = arguments.out / settings.tables[name].folder / f"{name}.csv.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(
            f"COPY (SELECT {columns} FROM range({repeats}) AS c(copy) CROSS JOIN {source} ORDER BY copy) "
            f"TO {quote(target)} (FORMAT csv, HEADER, COMPRESSION gzip)"
        )
    sums = [f"{sha256_file(file)}  {file.relative_to(arguments.out)}" for file in arguments.out.rglob("*.gz")]
    (arguments.out / "SHA256SUMS.txt").write_text("\n".join(sums) + "\n")  # as every release has


def _shifted(column: str, header: list[str]) -> str:
    name = column.lower()
    if name in PATIENT_KEYS:
        return f'CAST("{column}" AS INTEGER) + copy * {KEY_STEP}'
    if name in DENSE_KEYS:
        dense = f'DENSE_RANK() OVER (ORDER BY CAST("{column}" AS INTEGER), copy)'
        return f'CASE WHEN "{column}" IS NOT NULL THEN {dense} END'
    if name == "anchor_year":
        return f'CAST("{column}" AS INTEGER) + 4 * (copy % {SHIFTS})'
    if name.endswith(("time", "date")) or name == "dod":
        kind = "TIMESTAMP" if name.endswith("time") or "chartdate" in name else "DATE"
        return f'CAST(CAST("{column}" AS {kind}) + to_days(CAST(copy % {SHIFTS} * {DAYS_STEP} AS INTEGER)) AS {kind})'
    return f'"{column}"'


def parse_only(arguments: argparse.Namespace) -> None:
    """The floor: the same engine decompresses every file and parses the columns that a build reads."""
    settings = load_shipped(TablesSettings, "tables.yaml")
    limits = {"memory_limit": arguments.memory_limit} if arguments.memory_limit else {}
    connection = duckdb.connect(config=limits)
    for name, raw in open_source(str(arguments.mimic), settings).tables.items():
        file = raw.where
        kinds = settings.tables[name].columns
        sniffed = f"read_csv({quote(file)}, all_varchar = true, header = true)"
        header = [row[0] for row in connection.execute(f"DESCRIBE FROM {sniffed}").fetchall()]
        columns = [f"{quote(column)}: {quote(kinds.get(column.lower(), 'VARCHAR'))}" for column in header]
        reader = (
            f"read_csv({quote(file)}, columns = {{{', '.join(columns)}}}, header = true, "
            "auto_detect = false, delim = ',', quote = '\"', escape = '\"')"
        )
        counts = ", ".join(f"count({column})" for column in kinds)
        connection.execute(f"SELECT {counts} FROM {reader}").fetchall()


def build(arguments: argparse.Namespace) -> None:
    """The whole command, in place of this process."""
    options = ["--mimic", arguments.mimic, "--out", arguments.out / "replay"]
    limits = ["--memory-limit", arguments.memory_limit] if arguments.memory_limit else []
    command = [sys.executable, "-m", "sepsis_cql", "build", *map(str, options), *limits, "--quiet"]
    os.execv(sys.executable, command)


def build_by_stages(arguments: argparse.Namespace) -> None:
    """The same build, with the seconds of the processor that each of its stages took."""
    # imported here, so that the process that measures stays small
    from sepsis_cql.replay.build import Engine, build_replay
    from sepsis_cql.replay.settings import load_build_settings

    begins: dict[str, float] = {}
    seconds = {"before": time.process_time()}

    def announce(stage: str, line: str) -> None:
        now = time.process_time()
        if line:
            seconds[stage] = now - begins[stage]
        begins[stage] = now

    engine = Engine(memory_limit=arguments.memory_limit)
    build_replay(
        arguments.mimic,
        arguments.out / "replay",
        load_build_settings(),
        engine=engine,
        announce=announce,
    )
    write_json(arguments.out.parent / STAGES, seconds)


WORKERS = {"multiply": multiply, "floor": parse_only, "build": build, "stages": build_by_stages}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mimic", type=Path, required=True, help="root of the MIMIC-IV demo")
    parser.add_argument("--out", type=Path, required=True, help="directory for tables and results")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--memory-limit", help="of the database engine; without it the shipped default")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each task, of which the least counts")
    parser.add_argument("--keep", action="store_true", help="keep the multiplied tables for the next run")
    parser.add_argument("--worker", choices=sorted(WORKERS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
