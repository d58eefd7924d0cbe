"""Worker processes: one thread each, deaf to Ctrl-C, and gone when their parent is."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any


@contextmanager
def open_pool(
    n: int, start: str, initializer: Callable[..., None], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of `n` processes; an error in the block, or Ctrl-C, ends them at once.

    Args:
        n: processes.
        start: how they come to be: `fork`, `forkserver` or `spawn`.
        initializer: what each calls first; `become_worker` should be part of it.
        *arguments: of the initializer.
    """
    with ProcessPoolExecutor(n, get_context(start), initializer, arguments) as pool:
        try:
            yield pool
        except BaseException:
            for worker in active_children():  # or the pool would first make what is waiting
                worker.terminate()
            raise


def become_worker() -> None:
    """Use one thread, leave Ctrl-C to the parent, and end when the parent has."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
