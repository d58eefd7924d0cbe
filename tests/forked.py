"""A process of its own that need not import the libraries again: a fork of this one."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

CONTEXT = multiprocessing.get_context("fork")


class Fork:
    """Work in a fork of this process, begun at once.

    Args:
        work: what it does; its SystemExit is the exit code, as that of a program.
        folder: where it stands.
        arguments: `sys.argv` of the program.
    """

    def __init__(self, work: Callable[[], object], folder: Path, arguments: list[object]) -> None:
        self._printed = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = CONTEXT.Process(target=self._work, args=(work, folder, arguments))
        self.process.start()

    def _work(self, work: Callable[[], object], folder: Path, arguments: list[object]) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(folder)
        for number in (1, 2):
            os.dup2(self._printed.fileno(), number)
        sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.argv = [*map(str, arguments)]
        work()

    def wait(self) -> tuple[int | None, str]:
        """Wait for its end; exit code, negative for a signal, and what it printed to either stream."""
        self.process.join()
        self._printed.seek(0)
        return self.process.exitcode, self._printed.read()
