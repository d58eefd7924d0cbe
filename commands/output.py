"""What commands say: lines for people, one JSON object for programs (--json), nothing (--quiet), and bars of work."""

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from functools import wraps
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead, and nothing else.")]


class Output(Console):
    """The one console of all commands, with what the command found as facts."""

    def __init__(self) -> None:
        super().__init__(highlight=False, soft_wrap=True)
        self.facts: Mapping[str, Any] | None = None

    def answer(self, facts: Mapping[str, Any], *, failed: bool = False) -> None:
        """Say what a command found: for --json, and by the exit code.

        Args:
            facts: numbers, texts, lists and dictionaries of them.
            failed: whether what was looked at is not as it should be.

        Raises:
            Exit: with code 1, where it failed.
        """
        self.facts = facts
        if failed:
            raise typer.Exit(1)


console = Output()
SENTENCE = 28  # columns, in which a sentence can still be read


def with_output(function: Callable[..., Any]) -> Callable[..., None]:
    """Return the function of a command with the options --quiet and --json."""

    @wraps(function)
    def command(*, quiet: bool, as_json: bool, **options: Any) -> None:
        console.facts, console.quiet = None, quiet or as_json
        try:
            with (
                redirect_stdout(sys.stderr) if as_json else nullcontext()
            ):  # whatever a policy or a library prints
                function(**options)
        except typer.Exit:
            _print_facts(as_json)
            raise
        finally:
            console.quiet = False
        _print_facts(as_json)

    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("quiet", Quiet), ("as_json", AsJson))
    ]
    signature = inspect.signature(function)
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *options])  # type: ignore[attr-defined]
    command.__annotations__ = function.__annotations__ | {"quiet": Quiet, "as_json": AsJson}
    return command


def _print_facts(as_json: bool) -> None:
    if as_json and console.facts is not None:
        typer.echo(json.dumps(console.facts, indent=2, allow_nan=False))


class Bar(Progress):
    """Columns of a progress that is shown only where somebody looks at a terminal, and gone at its end."""

    def __init__(self, *columns: ProgressColumn, **options: Any) -> None:
        super().__init__(
            *columns, console=console, transient=True, disable=not console.is_terminal, **options
        )

    def advance_to(self, task: TaskID, done: int) -> None:
        """Show how many steps of a task are done."""
        self.update(task, completed=done)


class Work(Bar):
    """A bar of the steps of a work, with the time that is left."""

    def __init__(self, name: str) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False, table_column=Column(max_width=44, no_wrap=True)),
            BarColumn(bar_width=16),
            TimeRemainingColumn(compact=True),
            speed_estimate_period=3600,
        )
        self._name, self._done = name, 0
        self._task = self.add_task(name, total=None)

    def __call__(self, text: str, left: int) -> None:
        """Show a step that begins.

        Args:
            text: what it does.
            left: steps after this one, as far as is known.
        """
        total = self._done + 1 + left
        self.update(self._task, description=f"{self._name}: {text}", completed=self._done, total=total)
        self._done += 1


def new_table(*headings: str, fold: tuple[str, ...] = ()) -> Table:
    """Return a table that breaks numbers nowhere and the columns in `fold` anywhere."""
    columns = [
        Column(heading, overflow="fold") if heading in fold else Column(heading, no_wrap=True)
        for heading in headings
    ]
    return Table(*columns, box=SIMPLE_HEAD, padding=0)


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that breaks nothing but the text of its last column, within the width of the terminal.

    Where a line has no room for the whole row, its first cell, the name, stands on a line of its own above the others.
    """
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    if sum(widths[:-1]) + min(widths[-1], SENTENCE) + len(widths) + 1 <= console.width:
        table = new_table(*headings, fold=(headings[-1],))
        for row in rows:
            table.add_row(*map(escape, row))
        print_table(table)
        return
    for row, style in [(headings, "bold"), *((row, "") for row in rows)]:
        columns = [Column(width=width, no_wrap=True) for width in widths[1:-1]]
        cells = Table(*columns, Column(overflow="fold"), box=None, show_header=False, padding=(0, 1, 0, 0))
        cells.add_row(*map(escape, row[1:]))
        console.print(escape(row[0]), style=style)
        console.print(Padding(cells, (0, 0, 0, 2)), style=style, soft_wrap=False)


def print_table(table: Table) -> None:
    """Print a table within the width of the terminal."""
    console.print(table, soft_wrap=False)
