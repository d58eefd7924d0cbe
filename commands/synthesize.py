"""`sepsis-cql synthesize`: a simulated ICU as MIMIC-IV tables."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from sepsis_cql.commands.options import Changes, Force
from sepsis_cql.commands.output import Work, console
from sepsis_cql.common.strict import find_settings, load_settings, parse_changes


def synthesize(
    out: Annotated[Path, typer.Option(help="MIMIC-IV root to create.")],
    patients: Annotated[int, typer.Option(help="Patients; about half belong to the septic cohort.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 1,
    config: Annotated[str, typer.Option(help="Settings of the simulator: shipped, or a file.")] = "synthetic",
    changes: Changes = None,
    force: Force = False,
) -> Any:
    """Write the stays of a simulated sepsis ICU as MIMIC-IV 3.1 tables, for `sepsis-cql build`.

    --set takes the section `synthetic`.
    """
    changed = parse_changes(changes or [], ["synthetic"])["synthetic"]
    file = find_settings(config, "vital_signs")
    # imported here, because pandas would slow down every other command
    from sepsis_cql.synthetic.rendering.render import NOTICE
    from sepsis_cql.synthetic.rendering.render import synthesize as write_tables
    from sepsis_cql.synthetic.settings import SyntheticSettings

    settings = load_settings(SyntheticSettings, file, changed)
    with Work("synthesize") as work:
        synthetic = write_tables(out, patients, seed, settings, force=force, inputs=[file], report=work)
    console.print(
        f"[green]✓[/] synthesize: {sum(synthetic.row_counts.values()):,} rows of {patients:,} patients"
    )
    console.print(f"{NOTICE}\nTables: {escape(str(out))}")
    console.answer({"out": str(out), "patients": patients, "seed": seed, "rows": synthetic.row_counts})
    return synthetic
