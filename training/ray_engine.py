"""Stacks of a sweep on the nodes of a Ray cluster; all nodes see the sweep's directory under the same path."""

import os
from collections.abc import Callable, Iterator, Sequence

from sepsis_cql.errors import TrainingError
from sepsis_cql.training.loop import Progress
from sepsis_cql.training.stacks import Stack, run_stack

ADDRESS = "RAY_ADDRESS"  # environment variable by which Ray finds an existing cluster


def run_on_ray(
    stacks: Sequence[Stack], report: Callable[[Stack, Progress], None]
) -> Iterator[tuple[Stack, dict[str, str]]]:
    """Each stack with its failures, in the order in which they end.

    A stack whose worker dies fails with Ray's reason, and the others go on.

    Args:
        stacks: independent of each other; each takes the runtime's threads, and a GPU where it asks for one.
        report: not called, since epochs pass on other machines.

    Raises:
        TrainingError: Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise TrainingError(
            "--engine ray: Ray is not installed. Install the extra: `sepsis-cql[ray]`."
        ) from error
    try:
        ray.init(address=os.environ.get(ADDRESS, "auto"), ignore_reinit_error=True, log_to_driver=False)
    except ConnectionError as error:
        raise TrainingError(
            f"--engine ray: no Ray cluster found ({error}). Start one with `ray start --head`, or name it in "
            f"{ADDRESS}."
        ) from error
    pending = {}
    for stack in stacks:
        needs_gpu = stack.runtime.device == "cuda"
        task = ray.remote(run_stack).options(
            num_cpus=stack.runtime.threads or 1, num_gpus=int(needs_gpu), scheduling_strategy="SPREAD"
        )
        pending[task.remote(stack)] = stack
    while pending:
        (ended,), _ = ray.wait(list(pending), num_returns=1)
        stack = pending.pop(ended)
        try:
            yield stack, ray.get(ended)
        except ray.exceptions.RayError as error:
            yield stack, {run.out.name: str(error).splitlines()[-1] for run in stack.runs}
