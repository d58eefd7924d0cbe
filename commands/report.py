"""`sepsis-cql report`: the items of a reporting guideline, answered from the evidence."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sepsis_cql.commands.output import console
from sepsis_cql.common.errors import PublishingError


def report(
    package: Annotated[
        Path,
        typer.Argument(
            help="Directory with model/evidence: an export, a card, a checkout; or a run with an export."
        ),
    ],
    format: Annotated[str, typer.Option(help="tripod-ai, probast-ai, target or chai.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .md, .html, or .xml for chai; without it Markdown is printed."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Answer each item of a guideline from the evidence, with number and place, or as not reported."""
    from sepsis_cql.common.storage import new_file
    from sepsis_cql.publishing.evidence import FOLDER
    from sepsis_cql.publishing.guideline import load_guideline, make_report, render_report

    load_guideline(format)
    if out is not None:
        _check_new(out, force=force)
    is_run = not (package / FOLDER).is_dir() and (package / "export" / FOLDER).is_dir()
    found = make_report(package / "export" if is_run else package, format)
    text = render_report(found, ".md" if out is None else out.suffix)
    if out is None:
        console.print(escape(text), end="")
    else:
        with new_file(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
        console.print(
            f"[green]✓[/] report: {found.n_answered} of {len(found.answers)} items answered: {escape(str(out))}"
        )
    console.answer(found.model_dump(mode="json"))


def _check_new(out: Path, *, force: bool) -> None:
    """Refuse a file that must not be replaced, before it is worked out what it would hold."""
    from sepsis_cql.publishing.guideline import is_report

    if not os.path.lexists(out):
        return
    if not force:
        raise PublishingError(f"{out}: exists already. Choose another --out, or replace it with --force.")
    if not is_report(out):
        raise PublishingError(
            f"{out}: found something else than a report of ours; --force replaces only those. Choose another --out, or "
            "remove it yourself."
        )
