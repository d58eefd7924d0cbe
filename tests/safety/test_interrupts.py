"""Ctrl-C in the first second, while modules are imported, is one line and exit code 130."""

import subprocess
import sys

import pytest

from sepsis_cql.tests.training.made_up import make_transitions

from .conftest import here

LINE = "interrupted. Nothing half-written is left.\n"
WHILE_IMPORTING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
wanted, sys.argv = sys.argv[1], ["sepsis-cql", *sys.argv[2:]]
sys.meta_path.insert(0, Press())
from sepsis_cql.__main__ import main
main()
"""
IN_A_DESTRUCTOR = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from sepsis_cql.__main__ import main
from sepsis_cql.commands import app
class Press:
    def __del__(self):
        raise KeyboardInterrupt
def work():
    Press()
    time.sleep(10)
app.app = work
main()
"""


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=here(),
        text=True,
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "module",
    [
        "typer",
        "rich.console",
        "filelock",
        "sepsis_cql.commands.train",
        "numpy",
        "pyarrow",
        "torch.nn",
    ],
)
def test_ctrl_c_while_a_module_is_imported(tmp_path, module):
    from sepsis_cql.replay.interop.exports import write_original

    write_original(make_transitions(n_stays=5), tmp_path / "replay.parquet")
    ended = run(
        WHILE_IMPORTING, module, "train", "--replay", tmp_path / "replay.parquet", "--out", tmp_path / "out"
    )
    assert (ended.returncode, ended.stderr) == (130, LINE)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_that_falls_into_a_destructor_is_not_lost():
    ended = run(IN_A_DESTRUCTOR)
    assert (ended.returncode, ended.stderr) == (130, LINE)
