"""`sepsis-cql build`: MIMIC-IV tables to a private replay directory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from sepsis_cql.commands.early import check_mimic
from sepsis_cql.commands.options import Cache, Changes, DiskLimit, Force, MemoryLimit, Mimic
from sepsis_cql.commands.output import Work, console
from sepsis_cql.common.errors import SettingsError
from sepsis_cql.common.strict import find_settings, parse_changes

if TYPE_CHECKING:
    from sepsis_cql.replay.report.counts import BuildReport

STAGES = ("tables", "concepts", "cohort", "trajectories", "statistics", "report")


def build(
    mimic: Mimic,
    out: Annotated[Path, typer.Option(help="Replay directory to create, readable by its owner only.")],
    config: Annotated[
        str, typer.Option(help="Cohort, trajectory and reward settings: shipped, or a file.")
    ] = "replay",
    features: Annotated[str, typer.Option(help="Features of a state: shipped, or a file.")] = "features",
    fluids: Annotated[str, typer.Option(help="Fluids of an action: shipped, or a file.")] = "fluids",
    changes: Changes = None,
    describe: Annotated[
        list[str] | None,
        typer.Option(
            help="Describe the patients by first_day_sofa, sapsii, oasis, charlson or kdigo_stages; repeat."
        ),
    ] = None,
    force: Force = False,
    cache: Cache = None,
    memory_limit: MemoryLimit = None,
    disk_limit: DiskLimit = None,
    threads: Annotated[int | None, typer.Option(help="Most threads of the database engine.")] = None,
) -> Any:
    """Build cohort, trajectories and replay buffers from MIMIC-IV tables; --set takes the section `replay`."""
    files = [
        find_settings(config, "onset_rule"),
        find_settings(features, "features"),
        find_settings(fluids, "resuscitation"),
    ]
    changed = parse_changes(changes or [], ["replay"])["replay"]
    check_mimic(mimic)
    # imported here, because pandas and DuckDB would slow down every other command
    from sepsis_cql.replay.build import Engine, build_replay
    from sepsis_cql.replay.report.severity import DESCRIPTIONS
    from sepsis_cql.replay.settings import load_build_settings

    if unknown := sorted(set(describe or ()) - set(DESCRIPTIONS)):
        raise SettingsError(
            f"--describe: found {', '.join(unknown)}, expected some of {', '.join(DESCRIPTIONS)}."
        )
    settings = load_build_settings(files[0], files[1], files[2], changed)
    with Work("build") as work:

        def announce(stage: str, line: str) -> None:
            if not line:
                work(stage, len(STAGES) - STAGES.index(stage) - 1)
            else:
                console.print(f"[green]✓[/] {stage}: {escape(line)}")

        report = build_replay(
            mimic,
            out,
            settings,
            force=force,
            inputs=files,
            engine=Engine(cache=cache, memory_limit=memory_limit, disk_limit=disk_limit, threads=threads),
            describe=describe or (),
            announce=announce,
        )
    _print_report(report, out)
    console.answer({"out": str(out), **report.model_dump(mode="json")})
    return report


def _print_report(report: "BuildReport", out: Path) -> None:
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}")
    cohort = report.cohort
    console.print(
        f"Found {cohort.stays:,} ICU stays, {cohort.septic_stays:,} of them septic; kept "
        f"{cohort.episodes:,} episodes with {cohort.transitions:,} transitions and "
        f"{cohort.deaths:,} deaths."
    )
    for row in report.attrition[1:]:
        console.print(f"  {row.stays_removed:>7,} stays excluded: not {escape(row.description)}")
    console.print(f"Replay directory: {escape(str(out))}")
