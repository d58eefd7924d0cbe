"""`sepsis-cql train`: a replay directory to a trained model package."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sepsis_cql.configs.loading import load_settings

console = Console(highlight=False, soft_wrap=True)
OVERRIDES = "Overrides the setting of that name."


class Tracker(StrEnum):
    """Where losses can go besides metrics.jsonl."""

    TENSORBOARD = "tensorboard"
    TRACKIO = "trackio"


def train(
    replay: Annotated[
        Path, typer.Option(help="Replay directory written by `build`, or a replay parquet file.")
    ],
    out: Annotated[Path, typer.Option(help="Directory of the run.")],
    config: Annotated[Path, typer.Option(help="Hyper-parameters.")] = Path("cql.yaml"),
    runtime: Annotated[
        Path | None,
        typer.Option(help="Device settings; without it those shipped for this machine's best device."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    threads: Annotated[int | None, typer.Option(help=OVERRIDES)] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    compiled: Annotated[
        bool | None, typer.Option(help="Compile the update first: faster steps on a processor.")
    ] = None,
    log_to: Annotated[
        Tracker | None,
        typer.Option(help="Also send losses to this tracker; metrics.jsonl is written anyway."),
    ] = None,
    reward_variant: Annotated[str | None, typer.Option(help=OVERRIDES)] = None,
    learning_rate: Annotated[float | None, typer.Option(help=OVERRIDES)] = None,
    alpha: Annotated[float | None, typer.Option(help=OVERRIDES)] = None,
    batch_size: Annotated[int | None, typer.Option(help=OVERRIDES)] = None,
    epochs: Annotated[int | None, typer.Option(help=OVERRIDES)] = None,
    seed: Annotated[int | None, typer.Option(help=OVERRIDES)] = None,
) -> dict[str, Any]:
    """Train a policy by Conservative Q-Learning, or whatever --config names, on the training split."""
    # imported here, because torch would slow down every other command
    from sepsis_cql.training.devices import load_runtime
    from sepsis_cql.training.settings import TrainingSettings
    from sepsis_cql.training.tracking import open_tracker
    from sepsis_cql.training.train import train_from_replay

    overrides = {
        "reward_variant": reward_variant,
        "learning_rate": learning_rate,
        "alpha": alpha,
        "batch_size": batch_size,
        "epochs": epochs,
        "seed": seed,
    }
    settings = load_settings(TrainingSettings, config, overrides)
    runtime_settings = load_runtime(
        runtime, {"device": device, "threads": threads, "precision": precision, "compiled": compiled}
    )
    with open_tracker(log_to.value if log_to else None, out) as log, new_progress_bar() as bar:
        task = bar.add_task("train", total=settings.epochs, facts="")

        def report(progress: Any) -> None:
            log(progress)
            bar.update(task, completed=progress.epoch, facts=describe(progress))

        try:
            record = train_from_replay(
                replay,
                out,
                settings,
                runtime_settings,
                resume=resume,
                force=force,
                report=report,
            )
        except KeyboardInterrupt:
            console.print(
                f"[yellow]interrupted.[/] Continue with --resume; checkpoints are in {escape(str(out))}."
            )
            raise typer.Exit(130) from None
    losses = record["losses"]
    console.print(
        f"[green]✓[/] train: {record['global_step']:,} steps, {settings.epochs} epochs in "
        f"{record['seconds']:.1f} s on {record['runtime']['device']}, {describe_losses(losses)}"
    )
    console.print(escape(str(out / "package")))
    return record


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
    )


def describe(progress: Any) -> str:
    """Losses and speed of an epoch in one line; of the first model of a stack."""
    return f"{describe_losses(progress.losses[0])}  {progress.steps_per_second:.0f} steps/s"


def describe_losses(losses: dict[str, float]) -> str:
    """The first two losses of a learner."""
    return ", ".join(f"{name} {value:.3f}" for name, value in list(losses.items())[:2])
