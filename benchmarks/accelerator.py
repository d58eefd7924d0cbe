"""Time of training on an NVIDIA GPU: one step, one run as published, the runs of a sweep.

    python benchmarks/accelerator.py --replay REPLAY --out DIR

REPLAY is a directory written by `sepsis-cql build`; tables that `sepsis-cql synthesize --patients 33200` makes give one
of the published size, and what is in it does not change the time of a step. The result goes to DIR/accelerator.json and
to the screen. Contenders of one step alternate in one process.
"""

import argparse
import time
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from sepsis_cql.benchmarks.contenders import Columns, Step, made_up_columns, new_learner, published, shuffled
from sepsis_cql.benchmarks.training_step import interleave, summarize
from sepsis_cql.common.provenance import package_versions
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import SHIPPED, load_shipped
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.validation_score import PolicyScorer
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.directory import Replay, open_replay
from sepsis_cql.training.devices import describe_device, load_runtime
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.records import Score
from sepsis_cql.training.run import train_from_replay
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.step.cuda_graph import GraphedUpdate
from sepsis_cql.training.sweep.protocol import Sweep, SweepSettings

CUDA = torch.device("cuda")
STEPS = 100  # of a contender in a round
RUNS = 24  # of stage 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replay", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    runtime = load_runtime("runtime.cuda")
    replay, columns = open_replay(arguments.replay), made_up_columns(CUDA)
    result = {
        "device": describe_device(CUDA, runtime).model_dump(),
        "versions": package_versions("torch", "numpy"),
        "batch_size": {str(size): measure(columns, size, arguments.rounds) for size in (4096, 256)},
        "run as published": card_run(replay, arguments.out / "run", runtime),
        "sweep": sweep(replay, arguments.out / "sweep", runtime),
    }
    write_json(arguments.out / "accelerator.json", result)
    print(result)


def measure(columns: Columns, batch_size: int, rounds: int) -> dict[str, Any]:
    """Milliseconds a step of each contender, and medians of the ratio in each round."""
    others = {"published recipe": published(columns, batch_size)}
    mine = {
        f"ours, {precision}, {n_models} run{'s' if n_models > 1 else ''}": recorded(
            columns, batch_size, precision, n_models
        )
        for precision in ("fp32", "bf16")
        for n_models in (1, RUNS)
    }
    times = interleave(others | mine, rounds, {}, default=STEPS, finish=torch.cuda.synchronize)
    return summarize(times, others, mine)


def recorded(columns: Columns, batch_size: int, precision: str, n_models: int) -> Step:
    """One step of ours, recorded as a graph."""
    update = GraphedUpdate(new_learner(columns, precision, n_models).update)
    batches = shuffled(batch_size, n_models, CUDA)
    return torch.no_grad()(lambda: update(next(batches)))


def card_run(replay: Replay, out: Path, runtime: RuntimeSettings) -> dict[str, float]:
    """Seconds of a run by `configs/cql.yaml`: of the whole command's work, and of its training loop."""
    settings = load_training_settings(SHIPPED / "cql.yaml")
    began = time.perf_counter()
    record = train_from_replay(replay, out, settings, runtime, force=True)
    return {
        "steps": record.global_step,
        "seconds, with reading and writing": time.perf_counter() - began,
        "seconds of training": record.seconds,
    }


class TimedScorer:
    """A scorer that notes how long it was at work, in one thread or in several at once.

    Attributes:
        seconds: so far.
    """

    def __init__(self, replay: Replay) -> None:
        self.seconds = 0.0
        rules = load_shipped(EvaluationSettings, "evaluation.yaml")
        self._scorer, self._lock, self._active = PolicyScorer(replay, rules, CUDA), Lock(), 0

    def __call__(self, model: SepsisCQLModel) -> Score:
        """What a sweep asks of a scorer."""
        self._count(1)
        try:
            return self._scorer(model)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            now = time.perf_counter()
            self.seconds -= now if self._active == 0 else 0.0
            self._active += change
            self.seconds += now if self._active == 0 else 0.0


def sweep(replay: Replay, out: Path, runtime: RuntimeSettings) -> dict[str, float]:
    """Seconds of both stages by `configs/sweep.yaml`: without and with scoring every run."""
    scorer = TimedScorer(replay)
    work = Sweep(
        replay,
        out,
        load_shipped(SweepSettings, "sweep.yaml"),
        load_training_settings(SHIPPED / "cql.yaml"),
        runtime,
        scorer,
    )
    began = time.perf_counter()
    work.open(resume=False, force=True)
    work.run_stage2(work.run_stage1())
    seconds = time.perf_counter() - began
    return {
        "runs": len(list((out / "runs").iterdir())),
        "seconds without scoring": seconds - scorer.seconds,
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
