"""`sepsis-cql sweep`: train and score many configurations, choose one on validation, freeze the choice."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from sepsis_cql.commands.train import OVERRIDES, describe, new_progress_bar
from sepsis_cql.configs.loading import load_settings

console = Console(highlight=False, soft_wrap=True)


class SweepMetric(StrEnum):
    """What ranks policies."""

    FQE = "fqe"
    PUBLISHED = "published"


class EngineName(StrEnum):
    """Where stacks of runs train."""

    LOCAL = "local"
    RAY = "ray"


def sweep(
    replay: Annotated[Path, typer.Option(help="Replay directory written by `build`.")],
    out: Annotated[Path, typer.Option(help="Directory of the sweep.")],
    stage: Annotated[
        int | None,
        typer.Option(min=1, max=2, help="1: screen only. 2: repeat the best and choose. Default: both."),
    ] = None,
    metric: Annotated[
        SweepMetric | None,
        typer.Option(help="fqe: lower bound of fitted Q evaluation among softened policies with overlap."),
    ] = None,
    config: Annotated[Path, typer.Option(help="The protocol.")] = Path("sweep.yaml"),
    training: Annotated[Path, typer.Option(help="Hyper-parameters the protocol does not name.")] = Path(
        "cql.yaml"
    ),
    runtime: Annotated[
        Path | None,
        typer.Option(help="Device settings; without it those shipped for this machine's best device."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the sweep in --out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
    engine: Annotated[
        EngineName, typer.Option(help="ray: on the nodes of a Ray cluster.")
    ] = EngineName.LOCAL,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    threads: Annotated[int | None, typer.Option(help=OVERRIDES)] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    compiled: Annotated[
        bool | None, typer.Option(help="Compile the update first: faster steps on a processor.")
    ] = None,
    stack: Annotated[int | None, typer.Option(help="Runs that train as one network.")] = None,
    batch_size: Annotated[int | None, typer.Option(help=OVERRIDES)] = None,
    epochs: Annotated[int | None, typer.Option(help=OVERRIDES)] = None,
) -> dict[str, Any] | None:
    """Run the two-stage selection protocol and freeze the chosen policy in OUT/selection.json."""
    # imported here, because torch would slow down every other command
    from sepsis_cql.evaluation.scoring import PolicyScorer
    from sepsis_cql.training.devices import load_runtime, open_device
    from sepsis_cql.training.ray_engine import run_on_ray
    from sepsis_cql.training.settings import TrainingSettings
    from sepsis_cql.training.stacks import run_locally
    from sepsis_cql.training.sweep import Sweep, SweepSettings

    settings = load_settings(SweepSettings, config, {"metric": metric})
    base = load_settings(TrainingSettings, training, {"batch_size": batch_size, "epochs": epochs})
    overrides = {
        "device": device,
        "threads": threads,
        "precision": precision,
        "compiled": compiled,
        "stack": stack,
    }
    chosen_runtime = load_runtime(runtime, overrides)
    with new_progress_bar() as bar:
        task = bar.add_task("sweep", total=base.epochs, facts="")

        def report(running: Any, progress: Any) -> None:
            names = f"{running.runs[0].out.name} and {len(running.runs) - 1} more" if running.runs[1:] else ""
            bar.update(
                task,
                completed=progress.epoch,
                description=names or running.runs[0].out.name,
                facts=describe(progress),
            )

        work = Sweep(
            replay,
            out,
            settings,
            base,
            chosen_runtime,
            PolicyScorer(replay, open_device(chosen_runtime)),
            engine=run_on_ray if engine is EngineName.RAY else run_locally,
            report=report,
        )
        try:
            # stage 2 starts from what stage 1 left in --out, and stage 1 makes only what is missing there
            work.open(resume=resume or stage == 2, force=force and stage != 2)
            scored = work.run_stage1()
            if stage != 1:
                scored = work.run_stage2(scored)
                selection = work.select(scored)
        except KeyboardInterrupt:
            console.print(f"[yellow]interrupted.[/] Continue with --resume; runs are in {escape(str(out))}.")
            raise typer.Exit(130) from None
    print_ranking(scored, settings.metric)
    for name, reason in work.failures.items():
        console.print(f"[yellow]failed:[/] {name}: {escape(reason)}")
    if stage == 1:
        return None
    chosen = selection["validation"]
    console.print(
        f"[green]✓[/] sweep: chose {chosen['run']} by {chosen['metric']}, out of {len(scored)} runs: the best seed "
        "of the configuration that leads over all its seeds"
    )
    if not chosen["passes_gates"]:
        console.print(
            "[yellow]warning:[/] validation overlaps too little with the chosen policy to judge it: "
            + escape("; ".join(chosen["configuration"]["sound"]["gates"]))
        )
    console.print(escape(str(out / "selection.json")))
    return selection


def print_ranking(scored: list[Any], metric: Any) -> None:
    """The ten best runs with both metrics; max Q is what the published protocol calls FQE."""
    from sepsis_cql.training.ranking import rank_runs

    names = ("run", "epoch", "judged as", "FQE (95% interval)", "ESS", "overlap", "max Q")
    table = Table(*(Column(name, overflow="fold") for name in names), box=SIMPLE_HEAD, padding=0)
    for run in rank_runs(scored, metric)[:10]:
        best = run.best(metric)
        table.add_row(
            run.name,
            str(best.epoch),
            best.softening,
            f"{best.fqe:.2f} ({best.fqe_lower:.2f} to {best.fqe_upper:.2f})",
            f"{best.ess:.1f}",
            "yes" if best.passes_gates else "no",
            f"{best.published_fqe:.2f}",
        )
    console.print(table)
