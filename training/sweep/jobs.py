"""The unit of work of a sweep: train a job of runs, score each on validation, leave the scores on disk."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import read_record
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.directory import Replay
from sepsis_cql.training.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, tensors_of_model
from sepsis_cql.training.data import TrainingData, load_training_data, new_model, set_weights
from sepsis_cql.training.devices import describe_device, find_device
from sepsis_cql.training.learners.registry import LEARNERS
from sepsis_cql.training.loop import Progress, read_log, read_losses
from sepsis_cql.training.outputs import RunEnd, read_run_record, write_outputs
from sepsis_cql.training.records import Metric, RunIdentity, RunRecord, RuntimeFacts, Score, Scores
from sepsis_cql.training.run import Run, job_identity, train_runs
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.sweep.ranking import ScoredRun

SCORES = "scores.json"  # in the directory of a run; its presence says that the run is trained and scored
THREADS_OF_A_SCORER = 2
Scorer = Callable[[SepsisCQLModel], Score]  # the epoch is set by who knows it


@dataclass(frozen=True)
class Job:
    """Runs to train together and score one by one.

    Attributes:
        runs: one, or several that differ only in what a job may vary.
        checkpoints: directory of their common checkpoints.
        replay: what they learn from.
        reward_variants: of the whole sweep, so that each of its runs names the same data.
        runtime: device, threads and precision.
        scorer: evaluates a policy on validation data; several threads may call it at once.
    """

    runs: Sequence[Run]
    checkpoints: Path
    replay: Replay
    reward_variants: Sequence[str]
    runtime: RuntimeSettings
    scorer: Scorer

    def is_done(self) -> bool:
        """Return whether every run has its scores."""
        return all((run.out / SCORES).exists() for run in self.runs)


def run_job(job: Job, report: Callable[[Progress], None] = lambda progress: None) -> dict[str, str]:
    """Train and score the runs that lack it; return the reason of each run that failed, by name.

    An error of one run, or of the training of the job, is its result: the sweep goes on with the others.
    """
    try:
        data = load_training_data(job.replay, job.reward_variants)
        records = train_runs(job.runs, data, job.runtime, checkpoints=job.checkpoints, report=report)
    except SepsisCQLError as error:
        return {run.out.name: str(error) for run in job.runs}
    failures = {
        run.out.name: record for run, record in zip(job.runs, records, strict=True) if isinstance(record, str)
    }
    missing = [
        index
        for index, run in enumerate(job.runs)
        if run.out.name not in failures and not (run.out / SCORES).exists()
    ]
    try:
        here = describe_device(find_device(job.runtime), job.runtime)
        checkpoints = list(checkpoints_of(job, data, here)) if missing else []
    except SepsisCQLError as error:
        return failures | {job.runs[index].out.name: str(error) for index in missing}
    with _scoring_threads() as threads:
        errors = threads.map(lambda index: _score(job, data, checkpoints, index), missing)
        found = zip(missing, errors, strict=True)
        failures |= {job.runs[index].out.name: error for index, error in found if error}
    return failures


@contextmanager
def _scoring_threads() -> Iterator[ThreadPoolExecutor]:
    """Yield threads that score one policy each and share the threads of PyTorch, which one policy cannot keep busy."""
    n_threads = torch.get_num_threads()
    workers = max(1, n_threads // THREADS_OF_A_SCORER)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(n_threads // workers,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)


def _score(job: Job, data: TrainingData, checkpoints: list[Checkpoint], index: int) -> str | None:
    """Score run `index` of a job at every checkpoint and write the scores; return the reason if that failed."""
    run = job.runs[index]
    try:
        scores = [
            job.scorer(model_at(checkpoint, run, data, index)).model_copy(update={"epoch": checkpoint.epoch})
            for checkpoint in checkpoints
        ]
    except SepsisCQLError as error:
        return str(error)
    write_json(run.out / SCORES, Scores(scores=scores).model_dump(mode="json"))
    return None


def run_locally(
    jobs: Sequence[Job], report: Callable[[Job, Progress], None]
) -> Iterator[tuple[Job, dict[str, str]]]:
    """Run the jobs one after the other on this machine; yield each with its failures."""
    for job in jobs:
        yield job, run_job(job, lambda progress, job=job: report(job, progress))  # type: ignore[misc]


def read_scores(run: Run) -> ScoredRun:
    """Read the scores of a run."""
    found = read_record(Scores, run.out / SCORES, expected="the validation scores of a run of the sweep")
    return ScoredRun(run.out.name, run.settings, found.scores)


def checkpoints_of(job: Job, data: TrainingData, runtime: RuntimeFacts) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a job, oldest first, which was trained on the machine that `runtime` describes."""
    identities = [RunIdentity(settings=run.settings, data=data.facts(), runtime=runtime) for run in job.runs]
    for path in list_checkpoints(job.checkpoints):
        yield load_checkpoint(path, job_identity(identities))


def model_at(checkpoint: Checkpoint, run: Run, data: TrainingData, index: int) -> SepsisCQLModel:
    """Return the policy of run `index` of a job as it was at a checkpoint."""
    model = new_model(data, run.settings)
    set_weights(model, run.settings, _tensors_of_run(checkpoint, run, index)["weights"])
    return model


def write_run_at_best_epoch(job: Job, scored: ScoredRun, metric: Metric, out: Path) -> RunRecord:
    """Write a run directory as if the run had ended at its best epoch; return its record."""
    data = load_training_data(job.replay, job.reward_variants)
    index = [run.out.name for run in job.runs].index(scored.name)
    run, epoch = job.runs[index], scored.best(metric).epoch
    record = read_run_record(run.out)
    (checkpoint,) = (found for found in checkpoints_of(job, data, record.runtime) if found.epoch == epoch)
    lines = (run.out / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:epoch]
    last = read_log(run.out / "metrics.jsonl")[:epoch][-1]
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.jsonl").write_bytes(b"".join(lines))
    end: RunEnd = {
        "epochs": epoch,
        "global_step": checkpoint.global_step,
        "resumed_from_epoch": record.resumed_from_epoch,
        "seconds": record.seconds,
        "losses": read_losses(last),
        "run": scored.name,
    }
    identity = RunIdentity(settings=record.settings, data=record.data, runtime=record.runtime)
    tensors = _tensors_of_run(checkpoint, run, index)
    return write_outputs(out, new_model(data, run.settings), tensors, data.features, identity, end)


def _tensors_of_run(checkpoint: Checkpoint, run: Run, index: int) -> dict[str, Tensor]:
    return tensors_of_model(checkpoint.tensors, index, len(LEARNERS[run.settings.algorithm].parts))
