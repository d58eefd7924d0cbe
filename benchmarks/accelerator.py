"""Time of training on an NVIDIA GPU: one step, one run as published, the runs of a sweep.

    python benchmarks/accelerator.py --replay REPLAY --out DIR

REPLAY is a directory written by `sepsis-cql build`; tables that `sepsis-cql synthesize --patients 33200` makes give one
of the published size, and what is in it does not change the time of a step. The result goes to DIR/accelerator.json and
to the screen. Contenders of one step alternate in one process.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from sepsis_cql.benchmarks.published_recipe import PublishedRecipe, q_network
from sepsis_cql.benchmarks.training_step import (
    N_STATES,
    N_TRANSITIONS,
    Columns,
    Step,
    interleave,
    made_up_columns,
    summarise,
)
from sepsis_cql.configs.loading import load_settings
from sepsis_cql.evaluation.scoring import PolicyScorer
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.provenance import package_versions
from sepsis_cql.storage import write_json
from sepsis_cql.training.buffer import ResidentBuffer
from sepsis_cql.training.cql import ConservativeQLearning
from sepsis_cql.training.devices import describe_device, load_runtime
from sepsis_cql.training.graphs import GraphedUpdate
from sepsis_cql.training.network import TrainableNetwork
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings
from sepsis_cql.training.sweep import Sweep, SweepSettings
from sepsis_cql.training.train import train_from_replay

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
    runtime = load_runtime(Path("runtime.cuda.yaml"), {})
    columns = made_up_columns(CUDA)
    result = {
        "device": describe_device(CUDA, runtime),
        "versions": package_versions("torch", "numpy"),
        "batch_size": {str(size): measure(columns, size, arguments.rounds) for size in (4096, 256)},
        "run as published": card_run(arguments.replay, arguments.out / "run", runtime),
        "sweep": sweep(arguments.replay, arguments.out / "sweep", runtime),
    }
    write_json(arguments.out / "accelerator.json", result)
    print(result)


def measure(columns: Columns, batch_size: int, rounds: int) -> dict[str, Any]:
    """Milliseconds a step of each contender, and medians of the ratio in each round."""
    recipe = PublishedRecipe(q_network(N_STATES, 0).to(CUDA), columns)
    batches = shuffled(1, batch_size)
    others: dict[str, Step] = {"published recipe": torch.enable_grad()(lambda: recipe.update(next(batches)))}
    mine = {
        f"ours, {name}, {n_models} run{'s' if n_models > 1 else ''}": ours(
            columns, batch_size, n_models, reduced_precision=name == "bf16"
        )
        for name in ("fp32", "bf16")
        for n_models in (1, RUNS)
    }
    times = interleave(others | mine, rounds, {}, default=STEPS, finish=torch.cuda.synchronize)
    return summarise(times, others, mine)


def shuffled(n_models: int, batch_size: int) -> Iterator[torch.Tensor]:
    """Endless batches of one random order, which every model of a stack follows."""
    order = torch.randperm(N_TRANSITIONS, device=CUDA).expand(n_models, -1)
    batches = (order if n_models > 1 else order[0]).split(batch_size, dim=-1)[:-1]
    while True:
        yield from batches


def ours(columns: Columns, batch_size: int, n_models: int, *, reduced_precision: bool) -> Step:
    """A recorded step of one run, or of a stack of them."""
    states, actions, rewards, next_states, terminals = columns
    network = TrainableNetwork(
        [q_network(N_STATES, seed) for seed in range(n_models)],
        [1e-4] * n_models,
        grad_clip=10.0,
        device=CUDA,
        reduced_precision=reduced_precision,
    )
    learner = ConservativeQLearning(
        network,
        ResidentBuffer(states.to(network.inputs_dtype), next_states, actions, terminals),
        rewards.expand(n_models, -1).clone() if n_models > 1 else rewards,
        alphas=[0.05] * n_models,
        gamma=0.99,
        target_update_epochs=10,
    )
    update, batches = GraphedUpdate(learner.update), shuffled(n_models, batch_size)
    return torch.no_grad()(lambda: update(next(batches)))


def card_run(replay: Path, out: Path, runtime: RuntimeSettings) -> dict[str, float]:
    """Seconds of a run by `configs/cql.yaml`: of the whole command's work, and of its training loop."""
    settings = load_settings(TrainingSettings, Path("cql.yaml"), {})
    began = time.perf_counter()
    record = train_from_replay(replay, out, settings, runtime, force=True)
    return {
        "steps": record["global_step"],
        "seconds, with reading and writing": time.perf_counter() - began,
        "seconds of training": record["seconds"],
    }


class TimedScorer:
    """A scorer that notes how long it was at work, in one thread or in several at once.

    Attributes:
        seconds: so far.
    """

    def __init__(self, replay: Path) -> None:
        self.seconds = 0.0
        self._scorer, self._lock, self._active = PolicyScorer(replay, CUDA), Lock(), 0

    def __call__(self, model: SepsisCQLModel) -> dict[str, Any]:
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


def sweep(replay: Path, out: Path, runtime: RuntimeSettings) -> dict[str, float]:
    """Seconds of both stages by `configs/sweep.yaml`: without and with scoring every run."""
    scorer = TimedScorer(replay)
    work = Sweep(
        replay,
        out,
        load_settings(SweepSettings, Path("sweep.yaml"), {}),
        load_settings(TrainingSettings, Path("cql.yaml"), {}),
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
