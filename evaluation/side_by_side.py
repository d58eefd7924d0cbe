"""Independent parts of an evaluation at once, each on one thread.

Threads that share a part of this size wait for one another longer than they compute.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

MOST = 4  # parts at once; the evaluator of a policy adds 1.2 GB at the size of the published study

Part = TypeVar("Part")
Result = TypeVar("Result")


def side_by_side(
    function: Callable[[Part], Result], parts: Iterable[Part], *, most: int = MOST
) -> list[Result]:
    """Return what `function` makes of each part, in their order, of as many at once as PyTorch may use threads.

    Never more than `most`. A part that does so in its turn is not split further. The first error ends those that have
    not begun.
    """
    waiting, n_threads = list(parts), torch.get_num_threads()
    if min(n_threads, len(waiting)) < 2:
        return [function(part) for part in waiting]
    pool = ThreadPoolExecutor(min(n_threads, len(waiting), most), initializer=_take_one_thread)
    with threadpool_limits(1):  # of BLAS those of the process, of OpenMP this thread's
        try:
            return list(pool.map(function, waiting))
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(n_threads)


def _take_one_thread() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="openmp")
