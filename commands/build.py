"""`sepsis-cql build`: MIMIC-IV tables to a private replay directory."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sepsis_cql.configs.loading import load_settings
from sepsis_cql.replay.build import BuildSummary, Engine, build_replay
from sepsis_cql.replay.settings import ReplaySettings

console = Console(highlight=False, soft_wrap=True)


def build(
    mimic: Annotated[
        Path, typer.Option(help="MIMIC-IV root with `hosp` and `icu` (csv.gz, csv or parquet).")
    ],
    out: Annotated[Path, typer.Option(help="Replay directory to create, readable by its owner only.")],
    config: Annotated[Path, typer.Option(help="Cohort, trajectory and reward settings.")] = Path(
        "replay.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing directory.")] = False,
    onset_rule: Annotated[str | None, typer.Option(help="Overrides the setting of that name.")] = None,
    alignment: Annotated[str | None, typer.Option(help="Overrides the setting of that name.")] = None,
    availability: Annotated[str | None, typer.Option(help="Overrides the setting of that name.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the setting of that name.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Keep the tables read from MIMIC-IV here (private) for the next build."),
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(help="Most memory of the database engine, as `8GB`.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Most threads of the database engine.")] = None,
) -> BuildSummary:
    """Build cohort, 4-hour trajectories and replay buffers from MIMIC-IV tables."""
    overrides = {"onset_rule": onset_rule, "alignment": alignment, "availability": availability, "seed": seed}
    settings = load_settings(ReplaySettings, config, overrides)
    with console.status("build") as status:

        def announce(stage: str, line: str) -> None:
            status.update(f"build: {stage}")
            if line:
                console.print(f"[green]✓[/] {stage}: {escape(line)}")

        summary = build_replay(
            mimic,
            out,
            settings,
            force=force,
            engine=Engine(cache=cache, memory_limit=memory_limit, threads=threads),
            announce=announce,
        )
    _print_summary(summary)
    return summary


def _print_summary(summary: BuildSummary) -> None:
    for warning in summary.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}")
    console.print(
        f"Found {summary.stays:,} ICU stays, {summary.septic_stays:,} of them septic; kept "
        f"{summary.episodes:,} episodes with {summary.transitions:,} transitions and "
        f"{summary.deaths:,} deaths."
    )
    for row in summary.attrition[1:]:
        console.print(f"  {row.stays_removed:>7,} stays excluded: not {escape(row.description)}")
    console.print(f"Replay directory: {escape(str(summary.directory))}")
