"""`sepsis-cql doctor`: is this machine ready, and what to fix where it is not."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sepsis_cql.commands.output import console


def doctor(
    out: Annotated[Path, typer.Option(help="Directory in which runs will be written.")] = Path("outputs"),
    replay: Annotated[Path | None, typer.Option(help="Replay directory to check as well.")] = None,
) -> None:
    """Print device, threads, versions, data and disk state; exit with code 1 where something needs fixing."""
    from sepsis_cql.training.doctor import examine  # imports torch

    facts = examine(out, replay)
    for fact in facts:
        mark = "[yellow]![/]" if fact.advice else "[green]✓[/]"
        console.print(f"{mark} {fact.name:<18} {escape(fact.found)}")
        if fact.advice:
            console.print(f"  {'':<18} {escape(fact.advice)}")
    console.answer({"facts": [asdict(fact) for fact in facts]}, failed=any(fact.advice for fact in facts))
