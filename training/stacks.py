"""The unit of work of a sweep: train a stack of runs, score each on validation, leave the scores on disk."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepsis_cql.errors import SepsisCQLError
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.storage import read_json, write_json
from sepsis_cql.training.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, tensors_of_model
from sepsis_cql.training.data import TrainingData, load_training_data, new_model
from sepsis_cql.training.devices import open_device
from sepsis_cql.training.loop import AXES, Progress
from sepsis_cql.training.outputs import RECORD, write_outputs
from sepsis_cql.training.ranking import Metric, Score, ScoredRun
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.train import Run, run_identities, stack_identity, train_runs

SCORES = "scores.json"  # in the directory of a run; its presence says that the run is trained and scored
THREADS_OF_A_SCORER = 2
Scorer = Callable[[SepsisCQLModel], dict[str, Any]]  # a policy to the fields of `Score`, all but the epoch


@dataclass(frozen=True)
class Stack:
    """Runs to train together and score one by one.

    Attributes:
        runs: one, or several that differ only in what a stack may vary.
        checkpoints: directory of their common checkpoints.
        replay: directory or file.
        reward_variants: of the whole sweep, so that each of its runs names the same data.
        runtime: device, threads and precision.
        scorer: evaluates a policy on validation data; several threads may call it at once.
    """

    runs: Sequence[Run]
    checkpoints: Path
    replay: Path
    reward_variants: Sequence[str]
    runtime: RuntimeSettings
    scorer: Scorer

    def is_done(self) -> bool:
        """Whether every run has its scores."""
        return all((run.out / SCORES).exists() for run in self.runs)


def run_stack(stack: Stack, report: Callable[[Progress], None] = lambda progress: None) -> dict[str, str]:
    """Train and score what is missing; the reason of each run that failed, by name.

    An error of one run, or of the training of the stack, is its result: the sweep goes on with the others.
    """
    try:
        data = load_training_data(stack.replay, stack.reward_variants)
        records = train_runs(stack.runs, data, stack.runtime, checkpoints=stack.checkpoints, report=report)
    except SepsisCQLError as error:
        return {run.out.name: str(error) for run in stack.runs}
    failures = {
        run.out.name: record["failed"]
        for run, record in zip(stack.runs, records, strict=True)
        if "failed" in record
    }
    missing = [
        index
        for index, run in enumerate(stack.runs)
        if run.out.name not in failures and not (run.out / SCORES).exists()
    ]
    try:
        checkpoints = list(checkpoints_of(stack, data)) if missing else []
    except SepsisCQLError as error:
        return failures | {stack.runs[index].out.name: str(error) for index in missing}
    with _scoring_threads() as threads:
        errors = threads.map(lambda index: _score(stack, data, checkpoints, index), missing)
        found = zip(missing, errors, strict=True)
        failures |= {stack.runs[index].out.name: error for index, error in found if error}
    return failures


@contextmanager
def _scoring_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that score one policy each and share the threads of PyTorch, which one policy cannot keep busy."""
    n_threads = torch.get_num_threads()
    workers = max(1, n_threads // THREADS_OF_A_SCORER)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(n_threads // workers,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)


def _score(stack: Stack, data: TrainingData, checkpoints: list[Checkpoint], index: int) -> str | None:
    """Score run `index` of a stack at every checkpoint and write the scores; the reason if that failed."""
    run = stack.runs[index]
    try:
        scores = [
            Score(epoch=checkpoint.epoch, **stack.scorer(model_at(checkpoint, run, data, index)))
            for checkpoint in checkpoints
        ]
    except SepsisCQLError as error:
        return str(error)
    write_json(run.out / SCORES, [asdict(score) for score in scores])
    return None


def run_locally(
    stacks: Sequence[Stack], report: Callable[[Stack, Progress], None]
) -> Iterator[tuple[Stack, dict[str, str]]]:
    """Each stack with its failures, one after the other on this machine."""
    for stack in stacks:
        yield stack, run_stack(stack, lambda progress, stack=stack: report(stack, progress))  # type: ignore[misc]


def read_scores(run: Run) -> ScoredRun:
    """A run with the scores on disk."""
    scores = read_json(run.out / SCORES, expected="the validation scores of a run of the sweep")
    return ScoredRun(run.out.name, run.settings, [Score(**score) for score in scores])


def checkpoints_of(stack: Stack, data: TrainingData) -> Iterator[Checkpoint]:
    """The stack's checkpoints, oldest first."""
    identities = run_identities(stack.runs, data, open_device(stack.runtime), stack.runtime)
    for path in list_checkpoints(stack.checkpoints):
        yield load_checkpoint(path, stack_identity(identities))


def model_at(checkpoint: Checkpoint, run: Run, data: TrainingData, index: int) -> SepsisCQLModel:
    """The policy of run `index` of a stack as it was at a checkpoint."""
    model = new_model(data, run.settings)
    weights = tensors_of_model(checkpoint.tensors, index)["weights"]
    nn.utils.vector_to_parameters(weights, model.net.parameters())
    return model


def write_run_at_best_epoch(stack: Stack, scored: ScoredRun, metric: Metric, out: Path) -> dict[str, Any]:
    """Write a run directory as if the run had ended at its best epoch; returns its record."""
    data = load_training_data(stack.replay, stack.reward_variants)
    index = [run.out.name for run in stack.runs].index(scored.name)
    run, epoch = stack.runs[index], scored.best(metric).epoch
    (checkpoint,) = (found for found in checkpoints_of(stack, data) if found.epoch == epoch)
    record = read_json(run.out / RECORD, expected="the record of a run")
    lines = (run.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:epoch]
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    last = json.loads(lines[-1])
    tensors: dict[str, Tensor] = tensors_of_model(checkpoint.tensors, index)
    return write_outputs(
        out,
        new_model(data, run.settings),
        tensors,
        settings=run.settings,
        identity={name: record[name] for name in ("settings", "data", "runtime")},
        facts={
            "global_step": checkpoint.global_step,
            "epochs": epoch,
            "run": scored.name,
            "seconds": record["seconds"],
            "losses": {name: value for name, value in last.items() if name not in AXES},
        },
    )
