"""`sepsis-cql train`: a replay directory to a trained model package."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sepsis_cql.commands.early import check_replay, check_resume
from sepsis_cql.commands.options import Changes, Force, ReplayPath, Resume, Runtime, list_files
from sepsis_cql.commands.output import console
from sepsis_cql.common.errors import StoppedError
from sepsis_cql.common.ownership import check_new_directory
from sepsis_cql.common.strict import find_settings, parse_changes


class Tracker(StrEnum):
    """Where losses can go besides metrics.jsonl."""

    TENSORBOARD = "tensorboard"
    TRACKIO = "trackio"


def train(
    replay: ReplayPath,
    out: Annotated[Path, typer.Option(help="Directory of the run.")],
    config: Annotated[str, typer.Option(help="Learner and hyper-parameters: shipped, or a file.")] = "cql",
    runtime: Runtime = None,
    changes: Changes = None,
    resume: Resume = False,
    force: Force = False,
    log_to: Annotated[
        Tracker | None,
        typer.Option(help="Also send losses to this tracker; metrics.jsonl is written anyway."),
    ] = None,
) -> None:
    """Train a policy by the learner that --config names, on the training split.

    --set takes the sections `training` and `runtime`.
    """
    changed = parse_changes(changes or [], ["training", "runtime"])
    file = find_settings(config, "algorithm")
    if runtime is not None:
        find_settings(runtime, "device")
    check_replay(replay)
    check_resume(out, "train", resume=resume)
    # imported here, because torch would slow down every other command
    from sepsis_cql.replay.directory import open_replay
    from sepsis_cql.training.devices import load_runtime
    from sepsis_cql.training.learners.registry import load_training_settings
    from sepsis_cql.training.run import train_from_replay
    from sepsis_cql.training.trackers import open_tracker

    settings = load_training_settings(file, changed["training"])
    runtime_settings = load_runtime(runtime, changed["runtime"])
    opened = open_replay(replay)
    inputs = [replay, file, *list_files(runtime)]
    if force and not resume:
        check_new_directory(out, "train", force=True, inputs=inputs)
    with open_tracker(log_to.value if log_to else None, out) as log, new_progress_bar() as bar:
        task = bar.add_task("train", total=settings.epochs, facts="")

        def report(progress: Any) -> None:
            log(progress)
            bar.update(task, completed=progress.epoch, facts=describe(progress))

        try:
            record = train_from_replay(
                opened,
                out,
                settings,
                runtime_settings,
                resume=resume,
                force=force,
                inputs=inputs,
                report=report,
            )
        except KeyboardInterrupt:
            raise StoppedError(f"Continue with --resume; checkpoints are in {out}.") from None
    console.print(
        f"[green]✓[/] train: {record.global_step:,} steps, {record.epochs} epochs in "
        f"{record.seconds:.1f} s on {record.runtime.device}, {describe_losses(record.losses)}"
    )
    console.print(escape(str(out / "package")))
    console.answer({"out": str(out), **record.model_dump(mode="json")})


def new_progress_bar() -> Progress:
    """A bar of epochs with a field `facts` for losses and speed."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def describe(progress: Any) -> str:
    """Return losses and speed of an epoch in one line; of the first run of a job."""
    return f"{describe_losses(progress.losses[0])}  {progress.steps_per_second:.0f} steps/s"


def describe_losses(losses: dict[str, float]) -> str:
    """Return the first two losses of a learner."""
    return ", ".join(f"{name} {value:.3f}" for name, value in list(losses.items())[:2])
