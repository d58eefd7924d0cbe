"""The one loop that trains every learner: epochs, log lines, checkpoints."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.ownership import TEMPORARY
from sepsis_cql.common.storage import new_file, parse_finite
from sepsis_cql.training.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.settings import TrainingSettings
from sepsis_cql.training.step.compiled import CompiledUpdate
from sepsis_cql.training.step.cuda_graph import GraphedUpdate
from sepsis_cql.training.step.device_buffer import epoch_order

AXES = ("epoch", "global_step", "steps_per_second")  # fields of a log line that are not losses


@dataclass(frozen=True)
class Progress:
    """How far a run has come after an epoch; `losses` are means over it, for each model."""

    epoch: int
    epochs: int
    global_step: int
    losses: list[dict[str, float]]
    steps_per_second: float


@dataclass(frozen=True)
class LoopFiles:
    """The files that a run writes.

    Attributes:
        checkpoints: directory of checkpoints, of all models together.
        metrics: one file of JSON lines for each model.
        identity: what makes the run this run; a checkpoint with another one is refused.
    """

    checkpoints: Path
    metrics: Sequence[Path]
    identity: dict[str, Any]


@dataclass
class LoopResult:
    """The end of a run.

    Attributes:
        global_step: optimizer steps done.
        resumed_from_epoch: 0 for a run in one piece.
        losses: of the last epoch, for each model.
        failed: reason for each model whose loss became NaN or infinite.
    """

    global_step: int = 0
    resumed_from_epoch: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)


@torch.no_grad()
def run_epochs(
    learner: Learner,
    settings: TrainingSettings,
    *,
    seeds: Sequence[int],
    n_transitions: int,
    device: torch.device,
    compiled: bool,
    files: LoopFiles,
    report: Callable[[Progress], None],
) -> LoopResult:
    """Train one model or several to the last epoch, from the newest checkpoint if there is one.

    Each model visits the transitions in the order of its own seed; all share the schedule of `settings`.

    Raises:
        TrainingError: every model's loss became NaN, or a file could not be written.
        CheckpointError: the newest checkpoint is damaged or foreign.
    """
    result = _resume(learner, files)
    update: Callable[[Tensor], Losses] = learner.update
    if device.type == "cuda":
        update = GraphedUpdate(update)
    elif compiled:
        update = CompiledUpdate(update, settings.batch_size)
    for epoch in range(result.resumed_from_epoch + 1, settings.epochs + 1):
        began = time.perf_counter()
        orders = {seed: epoch_order(seed, epoch, n_transitions).to(device) for seed in set(seeds)}
        order = torch.stack([orders[seed] for seed in seeds])
        batches = (order if len(seeds) > 1 else order[0]).split(settings.batch_size, dim=-1)
        result.losses = _mean_losses([update(rows) for rows in batches], n_models=len(seeds))
        result.global_step += len(batches)
        _note_failures(result, epoch, files)
        learner.end_epoch(epoch)
        progress = Progress(
            epoch=epoch,
            epochs=settings.epochs,
            global_step=result.global_step,
            losses=result.losses,
            steps_per_second=len(batches) / (time.perf_counter() - began),
        )
        _write(progress, learner, settings, files, result.failed)
        report(progress)
    return result


def _resume(learner: Learner, files: LoopFiles) -> LoopResult:
    """Load the newest checkpoint, cut from the logs what came after it, and read the last losses there."""
    for leftover in files.checkpoints.glob(f"{TEMPORARY}*"):  # of a process killed while writing
        leftover.unlink()
    result = LoopResult()
    if saved := list_checkpoints(files.checkpoints):
        checkpoint = load_checkpoint(saved[-1], files.identity)
        learner.load_state_dict(checkpoint.tensors)
        result = LoopResult(global_step=checkpoint.global_step, resumed_from_epoch=checkpoint.epoch)
    for path in files.metrics:
        if path.exists():
            kept = path.read_bytes().splitlines(keepends=True)[: result.resumed_from_epoch]
            with new_file(path) as temporary:
                temporary.write_bytes(b"".join(kept))
    if saved:
        _read_logs(result, files)
    return result


def read_log(file: Path) -> list[dict[str, float]]:
    """Return what a run logged of each epoch, in their order: its number and the losses.

    Raises:
        TrainingError: it is not what this program logs.
    """
    try:
        lines = [parse_finite(line) for line in file.read_bytes().splitlines()]
    except (ValueError, RecursionError):
        lines = [None]
    if not all(_is_logged(line, number, lines[0]) for number, line in enumerate(lines, 1)):
        raise TrainingError(
            f"{file}: found a line that is no epoch's losses, expected them as this program logs them. Start the run "
            "anew with --force, or use another --out."
        )
    return lines


def _is_logged(line: Any, epoch: int, first: Any) -> bool:
    return (
        isinstance(line, dict)
        and line.get("epoch") == epoch
        and set(first) <= set(line)
        and all(isinstance(value, int | float) for value in line.values())
    )


def _read_logs(result: LoopResult, files: LoopFiles) -> None:
    """Read the losses of the epoch a run resumes from; the log of a model that failed ends earlier."""
    for model, path in enumerate(files.metrics):
        lines = read_log(path) if path.exists() else []
        if len(lines) < result.resumed_from_epoch:
            result.failed[model] = f"{path}: no loss in epoch {len(lines) + 1} (expected finite losses)"
        result.losses.append(read_losses(lines[-1]) if lines else {})


def read_losses(line: dict[str, float]) -> dict[str, float]:
    """Return the losses of an epoch from what was logged of it."""
    return {name: value for name, value in line.items() if name not in AXES}


def _mean_losses(steps: list[Losses], n_models: int) -> list[dict[str, float]]:
    """Return the mean of each loss over an epoch for each model; the only wait for the device in an epoch."""
    names = list(steps[0])
    table = torch.stack([torch.stack([step[name] for step in steps]).mean(dim=0) for name in names])
    columns = table.view(len(names), n_models).T.tolist()
    return [dict(zip(names, column, strict=True)) for column in columns]


def _note_failures(result: LoopResult, epoch: int, files: LoopFiles) -> None:
    for model, losses in enumerate(result.losses):
        if model not in result.failed and not all(math.isfinite(value) for value in losses.values()):
            found = ", ".join(f"{name} {value}" for name, value in losses.items() if not math.isfinite(value))
            result.failed[model] = f"found {found} in epoch {epoch} (expected finite losses)"
    if len(result.failed) == len(result.losses):
        raise TrainingError(
            f"{files.checkpoints.parent}: {result.failed[0]}. Lower learning_rate, or check the rewards and "
            f"states. {_last_good(files.checkpoints)}"
        )


def _write(
    progress: Progress, learner: Learner, settings: TrainingSettings, files: LoopFiles, failed: dict[int, str]
) -> None:
    with explain_write_errors(files.checkpoints):
        for model, (path, losses) in enumerate(zip(files.metrics, progress.losses, strict=True)):
            if model in failed:
                continue
            line = {"epoch": progress.epoch, "global_step": progress.global_step, **losses}
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line | {"steps_per_second": progress.steps_per_second}) + "\n")
        if progress.epoch % settings.checkpoint_epochs == 0 or progress.epoch == settings.epochs:
            checkpoint = Checkpoint(progress.epoch, progress.global_step, learner.state_dict())
            save_checkpoint(files.checkpoints, checkpoint, files.identity, keep=settings.keep_checkpoints)


@contextmanager
def explain_write_errors(checkpoints: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into an error that says where the run can continue."""
    try:
        yield
    except OSError as error:
        # of something unfinished, which is gone when this is read, the place it was for
        name = str(error.filename2 or error.filename or checkpoints.parent).split(f"/{TEMPORARY}")[0]
        raise TrainingError(
            f"{name}: cannot write ({error.strerror or error}). Free space or correct permissions, then run the "
            f"command again, `train`, `sweep` and `compare` with --resume. {_last_good(checkpoints)}"
        ) from error


def _last_good(checkpoints: Path) -> str:
    saved = list_checkpoints(checkpoints)
    return f"The last good checkpoint is {saved[-1]}." if saved else "No checkpoint was written yet."
