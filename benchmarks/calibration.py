"""Time of a repetition of a calibration, by the number of scored episodes and of processes.

    python benchmarks/calibration.py --out DIR [--case icu-sepsis-300] [--repetitions 8]

runs `calibrate` on the same repetitions with one process and with as many as there are cores, in turn, each in a
directory of its own. Its environment, opened once a case, is timed apart. The clock tells how the work spreads over the
cores, the processor's time, of all processes, what a repetition costs. The result goes to the screen and to
DIR/calibration.json.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sepsis_cql.benchmarks.training_step import describe_processor
from sepsis_cql.common.provenance import package_versions
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.known_truth.calibrate import calibrate, open_environment
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings
from sepsis_cql.evaluation.settings import EvaluationSettings

WHOLE = 200  # repetitions of a case


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--case", nargs="+", default=["icu-sepsis-300", "icu-sepsis-null", "icu-sepsis-large"]
    )
    parser.add_argument("--repetitions", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    torch.set_num_threads(1)  # as in the processes
    result: dict[str, Any] = {
        "processor": describe_processor(),
        "cores": cores,
        "rounds": arguments.rounds,
        "repetitions": arguments.repetitions,
        "load average before": round(os.getloadavg()[0], 1),
        "versions": package_versions("torch", "numpy", "scikit-learn"),
        "cases": {},
    }
    settings = load_shipped(CalibrationSettings, "calibration.yaml", {"repetitions": arguments.repetitions})
    for name in arguments.case:
        result["cases"][name] = measure(name, settings, arguments.rounds, sorted({1, cores}))
        print(name, result["cases"][name], flush=True)
        write_json(arguments.out / "calibration.json", result)


def measure(name: str, settings: CalibrationSettings, rounds: int, processes: list[int]) -> dict[str, Any]:
    """Seconds of a repetition of one case, median and spread over the rounds, by the number of processes."""
    evaluation, case = load_shipped(EvaluationSettings, "evaluation.yaml"), settings.cases[name]
    case = case.model_copy(update={"repetitions": settings.repetitions})
    settings = settings.model_copy(update={"cases": {name: case}})
    before, began = cpu_seconds(), time.perf_counter()
    open_environment(case, settings, evaluation)
    opened, waited = cpu_seconds() - before, time.perf_counter() - began
    clock: dict[int, list[float]] = {jobs: [] for jobs in processes}
    processor: dict[int, list[float]] = {jobs: [] for jobs in processes}
    for _ in range(rounds):
        for jobs in processes:
            with tempfile.TemporaryDirectory() as folder:
                before, began = cpu_seconds(), time.perf_counter()
                calibrate(name, settings, evaluation, Path(folder), jobs=jobs)
                clock[jobs].append((time.perf_counter() - began - waited) / settings.repetitions)
                processor[jobs].append((cpu_seconds() - before - opened) / settings.repetitions)
    found: dict[str, Any] = {
        "scored": case.scored,
        "policies": sum(map(len, case.policies.values())),
        "opened once, s of processor": round(opened, 2),
    }
    for jobs in processes:
        found[f"a repetition, {jobs} processes, s"] = describe(clock[jobs])
        found[f"a repetition, {jobs} processes, s of processor"] = describe(processor[jobs])
    ratios = [one / several for one, several in zip(clock[1], clock[processes[-1]], strict=True)]
    found[f"1 process / {processes[-1]}"] = round(statistics.median(ratios), 2)
    each = statistics.median(processor[processes[-1]])
    found[f"computed: {WHOLE} repetitions on {processes[-1]} free cores, min"] = round(
        (opened + WHOLE * each / processes[-1]) / 60, 1
    )
    return found


def cpu_seconds() -> float:
    """Processor's seconds of this process and of those it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def describe(values: list[float]) -> dict[str, Any]:
    """Median and spread."""
    ends = [round(min(values), 3), round(max(values), 3)]
    return {"median": round(statistics.median(values), 3), "spread": ends}


if __name__ == "__main__":
    main()
