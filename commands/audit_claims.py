"""`sepsis-cql audit-claims`: flaws of a published table of results."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sepsis_cql.commands.output import console
from sepsis_cql.common.strict import SHIPPED, read_yaml


def audit_claims(
    file: Annotated[Path, typer.Argument(help="Table as YAML: source, attainable, n_episodes, rows.")],
) -> None:
    """Name each flaw of anybody's table of off-policy results; exit with code 1 where there is one."""
    from sepsis_cql.evaluation.claims import find_flaws, load_claims  # imported here for a quick start

    table = load_claims(file)
    flaws = find_flaws(table, read_yaml(SHIPPED / "evaluation.yaml")["gates"]["minimum_ess"])
    for flaw in flaws:
        where = f" ({'; '.join(flaw.rows)})" if flaw.rows else ""
        console.print(f"[yellow]![/] {flaw.kind}: {escape(flaw.sentence + where)}")
    if not flaws:
        console.print(f"[green]✓[/] {escape(table.source)}: no flaw found that a table shows by itself")
    found = [flaw._asdict() for flaw in flaws]
    console.answer({"source": table.source, "flaws": found}, failed=bool(flaws))
