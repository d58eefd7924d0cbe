"""`sepsis-cql doctor`: is this machine ready, and what to fix where it is not."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

console = Console(highlight=False, soft_wrap=True)


def doctor(
    out: Annotated[Path, typer.Option(help="Directory in which runs will be written.")] = Path("outputs"),
    replay: Annotated[Path | None, typer.Option(help="Replay directory to check as well.")] = None,
) -> None:
    """Print device, threads, versions, data and disk state; exit with code 1 where something needs fixing."""
    from sepsis_cql.training.health import examine  # imports torch

    findings = examine(out, replay)
    for finding in findings:
        mark = "[yellow]![/]" if finding.advice else "[green]✓[/]"
        console.print(f"{mark} {finding.name:<18} {escape(finding.found)}")
        if finding.advice:
            console.print(f"  {'':<18} {escape(finding.advice)}")
    if any(finding.advice for finding in findings):
        raise typer.Exit(1)
