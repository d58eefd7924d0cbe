"""Losses of a run to TensorBoard or trackio, beside the metrics.jsonl that every run writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.training.loop import Progress

Log = Callable[[Progress], None]


@contextmanager
def open_tracker(tracker: str | None, out: Path) -> Iterator[Log]:
    """Yield what logs an epoch of a single run, to nowhere where `tracker` is None.

    Args:
        tracker: tensorboard writes to `out`/tensorboard; trackio to its own local database, as a run of
            project sepsis-cql named after `out`.
        out: the run's directory.

    Raises:
        TrainingError: the tracker is not installed.
    """
    if tracker is None:
        yield lambda progress: None
        return
    try:
        log, close = _open_tensorboard(out) if tracker == "tensorboard" else _open_trackio(out)
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

    trackio.init(project="sepsis-cql", name=out.name, embed=False)
    return lambda progress: trackio.log(progress.losses[0], step=progress.epoch), trackio.finish
