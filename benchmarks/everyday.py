"""What users wait for every day: start, a package on rows of patients, the published evaluation; cost as work grows.

    python benchmarks/everyday.py --out DIR

interleaves each job with what it cannot be faster than or what it replaces: Python's own start; reading the weights and
the bare matrix products; the published bootstrap in plain loops. Writes DIR/everyday.json, with median and spread.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from sepsis_cql.benchmarks.evaluation import N_RESAMPLES, plain_loops
from sepsis_cql.benchmarks.training_step import describe_processor, interleave
from sepsis_cql.checkpoints.example import example_patient
from sepsis_cql.checkpoints.hub_package import load_package, new_feature_extractor
from sepsis_cql.common.provenance import ROOT, package_versions
from sepsis_cql.common.storage import write_json
from sepsis_cql.evaluation.original_protocol import original_metrics
from sepsis_cql.replay.transitions import Transitions

STARTS = {
    "python": ["-c", "pass"],
    "import sepsis_cql": ["-c", "import sepsis_cql"],
    "sepsis-cql --help": ["-m", "sepsis_cql", "--help"],
}
ROWS, EPISODES = (100, 1_000, 10_000), (300, 2_585, 10_000)
STEPS, N_STATES, N_ACTIONS = 12, 62, 25
PACKAGE, BARE = "package: load, extract, values", "weights from disk and bare products"
OURS, LOOPS = "published evaluation", "the same in plain loops"
Jobs = dict[str, Callable[[], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    starts = interleave({name: start(words) for name, words in STARTS.items()}, arguments.rounds, {}, 1)
    rows = {str(n): interleave(package_jobs(n), arguments.rounds, {}, 1) for n in ROWS}
    episodes = {str(n): interleave(evaluation_jobs(n), arguments.rounds, {}, 1) for n in EPISODES}
    result = {
        "processor": describe_processor(),
        "threads": torch.get_num_threads(),
        "load average before": round(load, 1),
        "versions": package_versions("torch", "transformers", "numpy", "pandas"),
        "start, ms": describe(starts),
        "by rows of patients, ms": {n: describe(found, PACKAGE, BARE) for n, found in rows.items()},
        "by scored episodes, ms": {n: describe(found, LOOPS, OURS) for n, found in episodes.items()},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "everyday.json", result)
    for name, value in result.items():
        print(f"{name:30} {value}")


def start(words: list[str]) -> Callable[[], Any]:
    """A Python process of its own."""
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


def package_jobs(n: int) -> Jobs:
    """The package at the root on a data frame of n rows, and the least that such values cost."""
    frame = pd.DataFrame([example_patient()] * n)
    states = torch.randn(n, N_STATES)

    @torch.no_grad()
    def package() -> torch.Tensor:
        model = load_package(ROOT)
        return model(**new_feature_extractor()(frame, return_tensors="pt")).q_values

    @torch.no_grad()
    def bare() -> torch.Tensor:
        weights, values = load_file(ROOT / "model.safetensors"), states
        for layer in (0, 2, 4):
            values = torch.addmm(weights[f"net.{layer}.bias"], values, weights[f"net.{layer}.weight"].T)
            values = values.relu() if layer < 4 else values
        return values

    return {PACKAGE: package, BARE: bare}


def evaluation_jobs(n: int) -> Jobs:
    """The published metrics of n made-up episodes, ours and in plain loops."""
    rng = np.random.default_rng(0)
    rows = n * STEPS
    ends = np.tile(np.arange(STEPS) == STEPS - 1, n)
    states = rng.normal(size=(rows, 2)).astype(np.float32)
    scored = Transitions(
        states=states,
        actions=rng.integers(0, N_ACTIONS, rows),
        rewards=np.where(ends, rng.choice([-15.0, 15.0], rows), 0.0),
        next_states=states,
        terminals=ends,
        stay_id=np.arange(n).repeat(STEPS),
        subject_id=np.arange(n).repeat(STEPS),
        step_index=np.tile(np.arange(STEPS), n),
        state_names=("a", "b"),
        normalized=True,
    )
    q_values = rng.normal(size=(rows, N_ACTIONS))
    return {
        OURS: lambda: original_metrics(scored, q_values, gamma=0.99, n_resamples=N_RESAMPLES),
        LOOPS: lambda: plain_loops(scored, q_values),
    }


def describe(times: dict[str, list[float]], above: str = "", below: str = "") -> dict[str, Any]:
    """Median and spread of each job, and the median over the rounds of one's time to the other's."""
    found: dict[str, Any] = {
        name: {
            "median": round(statistics.median(values), 2),
            "spread": [round(min(values), 2), round(max(values), 2)],
        }
        for name, values in times.items()
    }
    if above:
        ratios = [a / b for a, b in zip(times[above], times[below], strict=True)]
        found[f"{above} / {below}"] = round(statistics.median(ratios), 2)
    return found


if __name__ == "__main__":
    main()
