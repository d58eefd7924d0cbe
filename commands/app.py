"""The `sepsis-cql` command."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from sepsis_cql.commands.build import build
from sepsis_cql.commands.calibrate import calibrate
from sepsis_cql.commands.checkpoints import import_checkpoint
from sepsis_cql.commands.concepts import agree, concepts
from sepsis_cql.commands.doctor import doctor
from sepsis_cql.commands.evaluate import evaluate
from sepsis_cql.commands.publish import card, export, push, verify
from sepsis_cql.commands.reproduce import reproduce
from sepsis_cql.commands.sweep import sweep
from sepsis_cql.commands.synthesize import synthesize
from sepsis_cql.commands.train import train
from sepsis_cql.common.errors import SepsisCQLError

WARNING = "Research artefact on retrospective data. Not a medical device; never use it for patient care."

app = typer.Typer(
    help=f"MIMIC-IV to an audited Conservative Q-Learning sepsis policy.\n\n{WARNING}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(reproduce)
app.command()(synthesize)
app.command()(build)
app.command()(concepts)
app.command()(agree)
app.command()(train)
app.command()(sweep)
app.command()(evaluate)
app.command()(calibrate)
app.command()(card)
app.command()(export)
app.command()(push)
app.command()(verify)
app.command()(import_checkpoint)
app.command()(doctor)


def main() -> None:
    """Run the command; a known error prints its message and exits with code 2."""
    try:
        app()
    except SepsisCQLError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]error:[/]", escape(str(error)))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
