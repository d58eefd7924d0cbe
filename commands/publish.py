"""`sepsis-cql card` and `export`: results to a model card and to a directory that may be published."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sepsis_cql.errors import PublishingError

console = Console(highlight=False, soft_wrap=True)
Run = Annotated[
    Path,
    typer.Option(help="Run directory with `replay`, `training` and `evaluation`, as `reproduce` makes it."),
]


def card(
    run: Annotated[Path | None, typer.Option(help="Run directory to render the card of.")] = None,
    out: Annotated[
        Path,
        typer.Option(help="Package directory: receives the card, or already holds package and evidence."),
    ] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Only compare README.md with its evidence.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --run: replace what is in --out.")] = False,
) -> None:
    """Render the model card README.md from configuration, training record, evaluation and build report."""
    from sepsis_cql.publishing.card import check_card, write_card
    from sepsis_cql.publishing.export import write_package
    from sepsis_cql.storage import new_directory

    if check:
        if run is not None:
            raise PublishingError("--check compares --out with itself; leave --run away.")
        check_card(out)
        console.print(f"[green]✓[/] card: {escape(str(out / 'README.md'))} is what its evidence gives")
        return
    if run is None:
        file = write_card(out)
    else:
        with new_directory(out, force=force) as directory:
            write_package(run / "replay", run / "training", run / "evaluation", directory)
        file = out / "README.md"
    console.print(f"[green]✓[/] card: {escape(str(file))}")


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Directory to create.")],
    format: Annotated[
        str, typer.Option(help="package: everything; pt: only the checkpoint in the published layout.")
    ] = "package",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing directory.")] = False,
) -> None:
    """Write the allow-listed files of a run for the Hub, after the privacy guard has passed each of them."""
    from sepsis_cql.publishing.export import write_checkpoint, write_export

    if format not in ("package", "pt"):
        raise PublishingError(f"--format: found {format!r}, expected package or pt.")
    if format == "pt":
        file = write_checkpoint(run / "training", out, force=force)
        console.print(f"[green]✓[/] export: {escape(str(file))}")
        return
    files = write_export(run / "replay", run / "training", run / "evaluation", out, force=force)
    size = sum(row[1] for row in files)
    console.print(f"[green]✓[/] export: {len(files)} files, {size / 2**20:.1f} MiB, in {escape(str(out))}")
