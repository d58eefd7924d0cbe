"""The `sepsis-cql` command."""

import errno
import io
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

import sepsis_cql
from sepsis_cql.commands.lazy import LazyGroup
from sepsis_cql.common.errors import SepsisCQLError, StoppedError

STOPPED = "Nothing half-written is left."
STREAMS = {"stdout": 1, "stderr": 2}
CLOSED = (
    "Files of this program were closed by what it called, such as a policy; expected them left alone. Take that out of "
    "it, then run the command again."
)
LONGEST = 4000  # characters of a message; what was found in a foreign file can be any text
WARNING = "Research artefact on retrospective data. Not a medical device; never use it for patient care."

app = typer.Typer(
    cls=LazyGroup,
    help=f"MIMIC-IV to an audited Conservative Q-Learning sepsis policy.\n\n{WARNING}",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sepsis-cql {sepsis_cql.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options of `sepsis-cql` itself."""


def main() -> None:
    """Run the command; a known error prints its message and exits with code 2, Ctrl-C one line and code 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app()
    except StoppedError as error:
        _end("[yellow]interrupted.[/]", str(error), 130)
    except SepsisCQLError as error:
        _end("[bold red]error:[/]", str(error), 2)
    except BaseException as error:
        if _was_closed(error):
            _end("[bold red]error:[/]", CLOSED, 2)
        if _is_interrupt(error):
            _end("[yellow]interrupted.[/]", STOPPED, 130)
        if isinstance(error, SystemExit):
            raise
        from sepsis_cql.common.storage import explain_failure

        if (sentence := explain_failure(error)) is None:
            raise
        _end("[bold red]error:[/]", sentence, 2)


def _was_closed(error: BaseException) -> bool:
    """Whether what was called, such as a user's policy, closed files of this program; its output is opened again."""
    closed = [name for name in STREAMS if getattr(getattr(sys, name), "closed", False)]
    for name in closed:
        with suppress(OSError):
            setattr(sys, name, open(STREAMS[name], "w", closefd=False))  # noqa: SIM115
    is_told = isinstance(error, ValueError) and "closed file" in str(error)
    return is_told or (isinstance(error, OSError) and error.errno == errno.EBADF)


def _end(kind: str, text: str, code: int) -> NoReturn:
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}… ({len(text):,} characters)"
    text = "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )
    with suppress(OSError):
        Console(stderr=True, soft_wrap=True, highlight=False).print(kind, escape(text))
    sys.exit(code)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: the database engine turns it into one of its own, typer into an exit."""
    if isinstance(error, SystemExit):
        return error.code == 130
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "InterruptException":
            return True
        if isinstance(error, RuntimeError) and "interrupted" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False
