"""Processes of their own that need not import the libraries again: forks of this one, or of one that knows little."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

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


SERVE = """
import json, os, sys, traceback
for line in sys.stdin:
    program, folder, printed, environment, sys.argv = json.loads(line)
    child, code = os.fork(), 1
    if not child:
        os.chdir(folder)
        os.environ.update(environment)
        for stream in (1, 2):
            os.dup2(os.open(f"{printed}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        try:
            exec(program, {"__name__": "__main__"})
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Fresh:
    """An interpreter of its own that has imported only what it was told to; each program runs in a fork of it.

    Args:
        imports: code that it begins with.
        folder: where it stands, and keeps what programs print.
        environment: all of its variables.
        options: of the interpreter.
    """

    def __init__(self, imports: str, folder: Path, environment: dict[str, str], *options: str) -> None:
        self._printed = folder / "printed"
        self._process = subprocess.Popen(
            [sys.executable, *options, "-c", imports + SERVE],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, program: str, folder: Path, *arguments: object, **environment: str
    ) -> CompletedProcess[str]:
        """Run a program in a folder with arguments and further variables."""
        argv = ["program", *map(str, arguments)]
        assert self._process.stdin is not None and self._process.stdout is not None
        line = json.dumps([program, str(folder), str(self._printed), environment, argv])
        print(line, file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        out, error = (Path(f"{self._printed}.{stream}").read_text() for stream in (1, 2))
        return CompletedProcess(argv, code, out, error)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
