"""`sepsis-cql train`: a replay directory to a trained model package."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from sepsis_cql.commands.early import check_out, check_replay
from sepsis_cql.commands.options import Changes, Force, ReplayPath, Resume, Runtime, find_runtime
from sepsis_cql.commands.output import Bar, console
from sepsis_cql.common.errors import StoppedError
from sepsis_cql.common.strict import find_settings, parse_changes


def train(
    replay: ReplayPath,
    out: Annotated[Path, typer.Option(help="Directory of the run.")],
    config: Annotated[str, typer.Option(help="Learner and hyper-parameters: shipped, or a file.")] = "cql",
    runtime: Runtime = None,
    changes: Changes = None,
    resume: Resume = False,
    force: Force = False,
    log_to: Annotated[
        Literal["tensorboard", "trackio", "wandb"] | None,
        typer.Option(help="Also send losses to this tracker; metrics.jsonl is written anyway."),
    ] = None,
) -> None:
    """Train a policy by the learner that --config names, on the training split.

    --set takes the sections `training` and `runtime`.
    """
    changed = parse_changes(changes or [], ["training", "runtime"])
    file = find_settings(config, "algorithm")
    inputs = [replay, file, *find_runtime(runtime)]
    check_replay(replay)
    check_out(out, "train", resume=resume, force=force, inputs=inputs)
    # imported here, because torch would slow down every other command
    from sepsis_cql.replay.directory import open_replay
    from sepsis_cql.training.devices import load_runtime
    from sepsis_cql.training.learners.registry import load_training_settings
    from sepsis_cql.training.run import train_from_replay
    from sepsis_cql.training.trackers import open_tracker

    settings = load_training_settings(file, changed["training"])
    runtime_settings = load_runtime(runtime, changed["runtime"])
    opened = open_replay(replay)
    columns = BarColumn(bar_width=12), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
    facts = TextColumn("{task.fields[facts]}", table_column=Column(no_wrap=True))  # speed and losses
    with open_tracker(log_to, out) as log, Bar(*columns, facts) as bar:
        task = bar.add_task("train", total=settings.epochs, facts="")

        def report(progress: Any) -> None:
            log(progress)
            speed = f"{progress.steps_per_second:.0f} steps/s"
            bar.update(task, completed=progress.epoch, facts=f"{speed}, {_describe(progress.losses[0])}")

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
        f"{record.seconds:.1f} s on {record.runtime.device}, {_describe(record.losses)}"
    )
    console.print(escape(str(out / "package")))
    console.answer({"out": str(out), **record.model_dump(mode="json")})


def _describe(losses: dict[str, float]) -> str:
    """Return the first two losses of a learner."""
    return ", ".join(f"{name} {value:.3f}" for name, value in list(losses.items())[:2])
