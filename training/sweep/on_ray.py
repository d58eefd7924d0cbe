"""Jobs of a sweep on the nodes of a Ray cluster; all nodes see the sweep's directory under the same path."""

import os
from collections.abc import Callable, Iterator, Sequence

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.training.loop import Progress
from sepsis_cql.training.sweep.jobs import Job, run_job

ADDRESS = "RAY_ADDRESS"  # environment variable by which Ray finds an existing cluster


def run_on_ray(
    jobs: Sequence[Job], report: Callable[[Job, Progress], None]
) -> Iterator[tuple[Job, dict[str, str]]]:
    """Run the jobs on a Ray cluster; yield each with its failures, in the order in which they end.

    A job whose worker dies fails with Ray's reason, and the others go on.

    Args:
        jobs: independent of each other; each takes the runtime's threads, and a GPU where it asks for one.
        report: not called, since epochs pass on other machines.

    Raises:
        TrainingError: no cluster answers.
    """
    import ray

    try:
        ray.init(address=os.environ.get(ADDRESS, "auto"), ignore_reinit_error=True, log_to_driver=False)
    except ConnectionError as error:
        raise TrainingError(
            f"--engine ray: no Ray cluster found ({error}). Start one with `ray start --head`, or name it in "
            f"{ADDRESS}."
        ) from error
    pending = {}
    for job in jobs:
        needs_gpu = job.runtime.device == "cuda"
        task = ray.remote(run_job).options(
            num_cpus=job.runtime.threads or 1, num_gpus=int(needs_gpu), scheduling_strategy="SPREAD"
        )
        pending[task.remote(job)] = job
    while pending:
        (ended,), _ = ray.wait(list(pending), num_returns=1)
        job = pending.pop(ended)
        try:
            yield job, ray.get(ended)
        except ray.exceptions.RayError as error:
            yield job, {run.out.name: str(error).splitlines()[-1] for run in job.runs}
