"""A run from replay to model package; several runs of one shape train together as one job."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.ownership import one_writer
from sepsis_cql.common.provenance import git_commit
from sepsis_cql.common.storage import new_file, open_directory
from sepsis_cql.common.strict import read_yaml
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.directory import Replay
from sepsis_cql.training.checkpoint import refuse_differences
from sepsis_cql.training.data import TrainingData, load_training_data, new_model, new_networks
from sepsis_cql.training.devices import describe_device, open_device
from sepsis_cql.training.learners.base import Learner
from sepsis_cql.training.learners.registry import LEARNERS
from sepsis_cql.training.loop import LoopFiles, Progress, explain_write_errors, run_epochs
from sepsis_cql.training.outputs import RECORD, RunEnd, read_run_record, write_outputs
from sepsis_cql.training.records import RunConfig, RunIdentity, RunRecord
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings
from sepsis_cql.training.step.device_buffer import load_device_buffer
from sepsis_cql.training.step.network import TrainableNetwork


@dataclass(frozen=True)
class Run:
    """One run: its settings and its directory."""

    settings: TrainingSettings
    out: Path


def train_from_replay(
    replay: Replay,
    out: Path,
    settings: TrainingSettings,
    runtime: RuntimeSettings,
    *,
    resume: bool = False,
    force: bool = False,
    inputs: Sequence[Path | str] = (),
    report: Callable[[Progress], None] = lambda progress: None,
) -> RunRecord:
    """Train one network on the training split of `replay`; return the record in `out`/training.json.

    Args:
        replay: a directory, or a file of the original format.
        out: the run's directory: package/, model/, checkpoints/, metrics.jsonl, curves.png, config.yaml,
            training.json.
        settings: hyper-parameters.
        runtime: device, threads and precision.
        resume: continue the run in `out`; a run that is complete is left as it is.
        force: replace what a run left in `out`.
        inputs: files of settings, which are never replaced, as the replay.
        report: called after every epoch.

    Raises:
        TrainingError: `out` holds another run, a loss became NaN, or a file could not be written.
        CheckpointError: the newest checkpoint is damaged or foreign.
    """
    data = load_training_data(replay, [settings.reward_variant])
    run = Run(settings, out)
    with one_writer(out, "train"):
        open_directory(out, "train", resume=resume, force=force, inputs=[replay.path, *inputs])
        (result,) = train_runs([run], data, runtime, checkpoints=out / "checkpoints", report=report)
    assert isinstance(result, RunRecord)  # a single run that fails raises
    return result


def train_runs(
    runs: Sequence[Run],
    data: TrainingData,
    runtime: RuntimeSettings,
    *,
    checkpoints: Path,
    report: Callable[[Progress], None],
) -> list[RunRecord | str]:
    """Train runs that differ only in what their learner allows together, from the newest checkpoint where there is one.

    Args:
        runs: one, or several of one job.
        data: with the rewards of every variant the runs use.
        runtime: device, threads and precision.
        checkpoints: directory of the checkpoints of all runs together.
        report: called after every epoch.

    Returns:
        The record of each run, or the reason of one whose loss became NaN.
    """
    device = open_device(runtime)
    identities = run_identities(runs, data, device, runtime)
    for run, identity in zip(runs, identities, strict=True):
        _open_directory(run.out, identity)
    if all((run.out / RECORD).exists() for run in runs):
        return [read_run_record(run.out) for run in runs]
    models = [new_model(data, run.settings) for run in runs]
    learner = _new_learner(runs, models, data, device, runtime)
    began = time.perf_counter()
    result = run_epochs(
        learner,
        runs[0].settings,
        seeds=[run.settings.seed for run in runs],
        n_transitions=len(data.transitions),
        device=device,
        compiled=runtime.compiled,
        files=LoopFiles(checkpoints, [run.out / "metrics.jsonl" for run in runs], job_identity(identities)),
        report=report,
    )
    seconds = time.perf_counter() - began
    records: list[RunRecord | str] = []
    for index, (run, model) in enumerate(zip(runs, models, strict=True)):
        if index in result.failed:
            records.append(result.failed[index])
            continue
        end: RunEnd = {
            "epochs": run.settings.epochs,
            "global_step": result.global_step,
            "resumed_from_epoch": result.resumed_from_epoch,
            "seconds": seconds,
            "losses": result.losses[index],
        }
        with explain_write_errors(checkpoints):
            tensors = learner.model_state(index)
            records.append(write_outputs(run.out, model, tensors, data.features, identities[index], end))
    return records


def run_identities(
    runs: Sequence[Run], data: TrainingData, device: torch.device, runtime: RuntimeSettings
) -> list[RunIdentity]:
    """Return the identity of each run: with the same one it ends with the same weights."""
    facts, described = data.facts(), describe_device(device, runtime)
    return [RunIdentity(settings=run.settings, data=facts, runtime=described) for run in runs]


def job_identity(identities: list[RunIdentity]) -> dict[str, Any]:
    """Return what the checkpoints of a job say they belong to; one run alone is its own job."""
    values = [identity.model_dump(mode="json") for identity in identities]
    return {"runs": values} if values[1:] else values[0]


def _open_directory(out: Path, identity: RunIdentity) -> None:
    """Make the directory of a run and note in config.yaml what it is, or check that it already is this run's.

    Raises:
        TrainingError: the directory belongs to a run with other settings, data or device.
    """
    file = out / "config.yaml"
    expected = identity.model_dump(mode="json")
    if file.exists():
        found = read_yaml(file)
        found.pop("git_commit", None)
        return refuse_differences(f"{out}: holds another run", found, expected)
    with new_file(file) as temporary:
        values = RunConfig(**dict(identity), git_commit=git_commit()).model_dump(mode="json")
        temporary.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _new_learner(
    runs: Sequence[Run],
    models: Sequence[SepsisCQLModel],
    data: TrainingData,
    device: torch.device,
    runtime: RuntimeSettings,
) -> Learner:
    """Return a learner with the initial weights of `models`; a single run has no model dimension."""
    kind = LEARNERS[runs[0].settings.algorithm]
    shared = {shared_settings(run.settings) for run in runs}
    if len(shared) != 1:
        raise TrainingError(
            f"Runs of one job may differ only in {sorted(kind.of_each_model)}; found {sorted(shared)}."
        )
    network = TrainableNetwork(
        [net for run, model in zip(runs, models, strict=True) for net in new_networks(model, run.settings)],
        [run.settings.learning_rate for run in runs for _ in kind.parts],
        grad_clip=runs[0].settings.grad_clip,
        device=device,
        reduced_precision=runtime.precision == "bf16",
    )
    buffer = load_device_buffer(data.transitions, models[0], device, network.inputs_dtype)
    rewards = torch.stack(
        [torch.tensor(data.rewards[run.settings.reward_variant], dtype=torch.float32) for run in runs]
    ).to(device)
    settings = [run.settings for run in runs]
    return kind(network, buffer, rewards if len(runs) > 1 else rewards[0], settings)


def shared_settings(settings: TrainingSettings) -> str:
    """Return the JSON of the settings that runs of one job must have in common."""
    return settings.model_dump_json(exclude=set(LEARNERS[settings.algorithm].of_each_model))
