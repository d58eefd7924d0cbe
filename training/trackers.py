"""Losses of a run to TensorBoard, trackio or Weights & Biases, beside the metrics.jsonl that every run writes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.training.loop import Progress

Log = Callable[[Progress], None]
PROJECT = "sepsis-cql"


@contextmanager
def open_tracker(tracker: str | None, out: Path) -> Iterator[Log]:
    """Yield what logs an epoch of a single run, to nowhere where `tracker` is None.

    Args:
        tracker: tensorboard writes to `out`/tensorboard; trackio to its own local database, as a run of
            project sepsis-cql named after `out`; wandb to `out`/wandb and, unless WANDB_MODE=offline, to the account
            of `wandb login`, as a run of the same project and name.
        out: the run's directory.

    Raises:
        TrainingError: the tracker is not installed, or does not know whom to log for.
    """
    if tracker is None:
        yield lambda progress: None
        return
    try:
        log, close = OPENERS[tracker](out)
    except ImportError as error:
        raise TrainingError(
            f"--log-to {tracker}: not installed. Run `pip install 'sepsis-cql[{tracker}]'`."
        ) from error
    try:
        yield log
    finally:
        close()


def _open_tensorboard(out: Path) -> tuple[Log, Callable[[], None]]:
    from torch.utils.tensorboard import SummaryWriter

    @cache
    def writer() -> SummaryWriter:  # opened after the first epoch: a run begins in an empty directory
        return SummaryWriter(str(out / "tensorboard"))

    def log(progress: Progress) -> None:
        for name, value in progress.losses[0].items():
            writer().add_scalar(f"losses/{name}", value, progress.epoch)  # one section, curves side by side

    return log, lambda: writer().close() if writer.cache_info().currsize else None


def _open_trackio(out: Path) -> tuple[Log, Callable[[], None]]:
    import trackio

    trackio.init(project=PROJECT, name=out.name, embed=False)
    return lambda progress: trackio.log(progress.losses[0], step=progress.epoch), trackio.finish


def _open_wandb(out: Path) -> tuple[Log, Callable[[], None]]:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
    import wandb

    # by itself it sends the terminal's text, the repository's address, the packages and the machine as well
    losses_alone = wandb.Settings(
        console="off",
        disable_git=True,
        disable_code=True,
        host="",
        x_disable_machine_info=True,
        x_save_requirements=False,
    )

    with _explained(wandb.Error):
        wandb.login()  # before minutes of training; offline it asks for nothing

    @cache
    def run() -> Any:  # opened after the first epoch: a run begins in an empty directory
        with _explained(wandb.Error):
            return wandb.init(project=PROJECT, name=out.name, dir=str(out), settings=losses_alone)

    def log(progress: Progress) -> None:
        run().log(progress.losses[0], step=progress.epoch)

    return log, lambda: run().finish() if run.cache_info().currsize else None


@contextmanager
def _explained(errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise TrainingError(
            f"--log-to wandb: {str(error).rstrip('.')}. Or set WANDB_MODE=offline, and `wandb sync` later."
        ) from None


OPENERS = {"tensorboard": _open_tensorboard, "trackio": _open_trackio, "wandb": _open_wandb}
