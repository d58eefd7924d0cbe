"""`sepsis-cql synthesize`: a simulated ICU as MIMIC-IV tables."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sepsis_cql.synthetic.render import NOTICE, Synthetic
from sepsis_cql.synthetic.render import synthesize as write_tables
from sepsis_cql.synthetic.settings import load_synthetic_settings

console = Console(highlight=False, soft_wrap=True)


def synthesize(
    out: Annotated[Path, typer.Option(help="MIMIC-IV root to create.")],
    patients: Annotated[int, typer.Option(help="Patients; about half belong to the septic cohort.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing directory.")] = False,
) -> Synthetic:
    """Write the stays of a simulated sepsis ICU as MIMIC-IV 3.1 tables, for `sepsis-cql build`."""
    with console.status("synthesize"):
        synthetic = write_tables(out, patients, seed, load_synthetic_settings(), force=force)
    console.print(
        f"[green]✓[/] synthesize: {sum(synthetic.row_counts.values()):,} rows of {patients:,} patients"
    )
    console.print(f"{NOTICE}\nTables: {escape(str(out))}")
    return synthetic
