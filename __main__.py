"""Run the `sepsis-cql` command, which Ctrl-C ends with one line from its first import on."""

import gc
import os
import signal
import sys
import threading
from typing import Any

STOPPED = "interrupted. Nothing half-written is left.\n"


def main() -> None:
    """Import and run the command; Ctrl-C, also while modules are imported, is one line and exit code 130."""
    sys.unraisablehook = _interrupt_again
    gc.disable()  # nothing of what is imported is garbage
    try:
        from sepsis_cql.commands.app import main as run
    except BaseException as error:
        if not _is_interrupted(error):
            raise
        os.write(2, STOPPED.encode())
        os._exit(130)
    gc.freeze()
    gc.enable()
    run()


def _is_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error of an import, which a compiled module can turn into one of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _interrupt_again(unraisable: Any) -> None:
    """Repeat a Ctrl-C that fell into a destructor or a callback, where Python would print and forget it."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))  # once this has returned
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    main()
