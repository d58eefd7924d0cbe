"""Jobs of a sweep in processes of this machine, each on one thread.

Networks of this size do not keep several threads busy, and several threads that wait for each other at every product
come to a halt as soon as another program wants a core. One thread each also makes a run's weights the same whatever the
number of cores.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_all_start_methods, get_context
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.processes import become_worker, open_pool
from sepsis_cql.training.loop import Progress
from sepsis_cql.training.sweep.jobs import Job, run_job, run_locally

START = (
    "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
)  # a fork would copy locks of threads
SECONDS = 0.2  # between two looks at what the processes report

_jobs: Sequence[Job] = ()  # of a worker, which so reads replay and behavior policy once for all of them
_reports: Any = None


def run_in_processes(
    n: int, jobs: Sequence[Job], report: Callable[[Job, Progress], None]
) -> Iterator[tuple[Job, dict[str, str]]]:
    """Run the jobs in `n` processes at once; yield each with its failures, in the order in which they end.

    Args:
        n: processes; one is this process itself.
        jobs: independent of each other, each of one thread.
        report: called after every epoch of a job.

    Raises:
        TrainingError: a process was killed, as where memory is short.
    """
    if min(n, len(jobs)) < 2:
        yield from _run_here(jobs, report)
        return
    context = get_context(START)
    if START == "forkserver":
        # what all of them need is imported once, and not in each
        context.set_forkserver_preload(sorted({__name__, *(type(job.scorer).__module__ for job in jobs)}))
    reports = context.SimpleQueue()
    with open_pool(min(n, len(jobs)), START, _become_worker, jobs, reports) as pool:
        waiting = {pool.submit(_run, index): index for index in range(len(jobs))}
        while waiting:
            ended, _ = wait(waiting, SECONDS, FIRST_COMPLETED)
            while not reports.empty():
                index, progress = reports.get()
                report(jobs[index], progress)
            for future in ended:
                job = jobs[waiting.pop(future)]
                try:
                    yield job, future.result()
                except BrokenProcessPool:
                    raise TrainingError(
                        f"{job.runs[0].out}: a process that trained was killed, as happens where memory is short. "
                        "Train fewer runs at once with --set runtime.threads=1; what is done is kept."
                    ) from None


def _run_here(
    jobs: Sequence[Job], report: Callable[[Job, Progress], None]
) -> Iterator[tuple[Job, dict[str, str]]]:
    threads = torch.get_num_threads()
    try:
        with threadpool_limits(1, user_api="blas"):
            yield from run_locally(jobs, report)
    finally:
        torch.set_num_threads(threads)


def _become_worker(jobs: Sequence[Job], reports: Any) -> None:
    global _jobs, _reports
    become_worker()
    _jobs, _reports = jobs, reports


def _run(index: int) -> dict[str, str]:
    return run_job(_jobs[index], lambda progress: _reports.put((index, progress)))
