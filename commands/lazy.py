"""Commands that are imported when they are called, so that help and a mistyped name wait for no library."""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from inspect import cleandoc
from pathlib import Path
from types import CodeType
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from sepsis_cql.commands.output import with_output

# Every command and the module of this folder that holds its function, in the order of the help.
MODULES = {
    "reproduce": "reproduce",
    "synthesize": "synthesize",
    "build": "build",
    "concepts": "concepts",
    "agree": "concepts",
    "train": "train",
    "sweep": "sweep",
    "evaluate": "evaluate",
    "compare": "compare",
    "calibrate": "calibrate",
    "audit": "audit",
    "audit-claims": "audit_claims",
    "card": "publish",
    "export": "publish",
    "push": "publish",
    "verify": "publish",
    "import-checkpoint": "checkpoints",
    "report": "report",
    "runs": "runs",
    "doctor": "doctor",
}


def load_command(name: str) -> Callable[..., None]:
    """Import and return the function behind a command."""
    return getattr(import_module(f"sepsis_cql.commands.{MODULES[name]}"), name.replace("-", "_"))


class LazyGroup(TyperGroup):
    """Lists every command with its docstring, read from the source, and imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": {name: _defer(name) for name in MODULES}})


@cache
def _defer(name: str) -> Any:
    """Return what lists a command and imports it when it is called; made once, however often commands are called."""
    command = _make_command(name, _stand_in(name))
    command.make_context = _import_first(name)
    return command


def _make_command(name: str, function: Callable[..., None]) -> Any:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(function)
    return get_command(single)


def _import_first(name: str) -> Callable[..., Any]:
    return lambda *arguments, **options: _import(name).make_context(*arguments, **options)


@cache
def _import(name: str) -> Any:
    return _make_command(name, with_output(load_command(name)))


def _stand_in(name: str) -> Callable[..., None]:
    def command() -> None: ...

    command.__doc__ = _read_docstrings(MODULES[name])[name.replace("-", "_")]
    return command


@cache
def _read_docstrings(module: str) -> dict[str, str]:
    """Return the docstring of each function of a module of this folder, without importing it: of its compiled code."""
    name = f"{__package__}.{module}"
    loader = SourceFileLoader(name, str(Path(__file__).with_name(f"{module}.py")))
    code = loader.get_code(name)
    assert code is not None  # as it is for a builtin module
    parts = [part for part in code.co_consts if isinstance(part, CodeType)]
    return {part.co_name: cleandoc(part.co_consts[0]) for part in parts if isinstance(part.co_consts[0], str)}
