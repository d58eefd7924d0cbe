"""A run from replay to model package; several runs of one shape train as one stack."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from sepsis_cql.errors import TrainingError
from sepsis_cql.provenance import git_commit
from sepsis_cql.storage import new_file, read_json
from sepsis_cql.training.behavior_cloning import BehaviorCloning
from sepsis_cql.training.buffer import resident_buffer
from sepsis_cql.training.checkpoint import list_differences
from sepsis_cql.training.cql import ConservativeQLearning
from sepsis_cql.training.data import TrainingData, load_training_data, new_model
from sepsis_cql.training.devices import describe_device, open_device
from sepsis_cql.training.loop import LoopFiles, Progress, explain_write_errors, run_epochs
from sepsis_cql.training.network import TrainableNetwork
from sepsis_cql.training.outputs import RECORD, write_outputs
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings

OF_EACH_MODEL = {
    "reward_variant",
    "learning_rate",
    "alpha",
    "seed",
}  # settings that may differ within a stack


@dataclass(frozen=True)
class Run:
    """One run: its settings and its directory."""

    settings: TrainingSettings
    out: Path


def train_from_replay(
    replay: Path,
    out: Path,
    settings: TrainingSettings,
    runtime: RuntimeSettings,
    *,
    resume: bool = False,
    force: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Train one network on the training split of `replay`; returns the contents of `out`/training.json.

    Args:
        replay: directory written by `sepsis-cql build`, or a file of the published replay format.
        out: the run's directory: package/, model/, checkpoints/, metrics.jsonl, curves.png, config.yaml,
            training.json.
        settings: hyper-parameters.
        runtime: device, threads and precision.
        resume: continue the run in `out`; a run that is complete is left as it is.
        force: replace what is in `out`.
        report: called after every epoch.

    Raises:
        TrainingError: `out` holds another run, a loss became NaN, or a file could not be written.
        CheckpointError: the newest checkpoint is damaged or foreign.
    """
    data = load_training_data(replay, [settings.reward_variant])
    run = Run(settings, out)
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out}: found a file, expected a directory or nothing. Choose another --out.")
    if force and not resume:
        shutil.rmtree(out, ignore_errors=True)
    elif not resume and out.is_dir() and any(out.iterdir()):
        raise TrainingError(
            f"{out}: already holds files. Use --resume to continue that run, --force to replace it, or"
            " another --out."
        )
    return train_runs([run], data, runtime, checkpoints=out / "checkpoints", report=report)[0]


def train_runs(
    runs: Sequence[Run],
    data: TrainingData,
    runtime: RuntimeSettings,
    *,
    checkpoints: Path,
    report: Callable[[Progress], None],
) -> list[dict[str, Any]]:
    """Train runs that differ only in `OF_EACH_MODEL` together, from the newest checkpoint where there is one.

    Args:
        runs: one, or a stack.
        data: with the rewards of every variant the runs use.
        runtime: device, threads and precision.
        checkpoints: directory of the checkpoints of all runs together.
        report: called after every epoch.

    Returns:
        The record of each run; one whose loss became NaN has only the field `failed`, with the reason.
    """
    device = open_device(runtime)
    identities = run_identities(runs, data, device, runtime)
    for run, identity in zip(runs, identities, strict=True):
        _open_directory(run.out, identity)
    if all((run.out / RECORD).exists() for run in runs):
        return [read_json(run.out / RECORD, expected="the record of a run") for run in runs]
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
        files=LoopFiles(
            checkpoints,
            [run.out / "metrics.jsonl" for run in runs],
            stack_identity(identities),
        ),
        report=report,
    )
    facts = {
        "epochs": runs[0].settings.epochs,
        "global_step": result.global_step,
        "resumed_from_epoch": result.resumed_from_epoch,
        "seconds": time.perf_counter() - began,
    }
    records = []
    for index, (run, model) in enumerate(zip(runs, models, strict=True)):
        if index in result.failed:
            records.append({"failed": result.failed[index]})
            continue
        with explain_write_errors(checkpoints):
            record = write_outputs(
                run.out,
                model,
                learner.model_state(index),
                settings=run.settings,
                identity=identities[index],
                facts=facts | {"losses": result.losses[index]},
            )
        records.append(record)
    return records


def run_identities(
    runs: Sequence[Run], data: TrainingData, device: torch.device, runtime: RuntimeSettings
) -> list[dict[str, Any]]:
    """What makes each run that run: with the same values it ends with the same weights."""
    return [
        {
            "settings": run.settings.model_dump(),
            "data": data.facts(),
            "runtime": describe_device(device, runtime),
        }
        for run in runs
    ]


def stack_identity(identities: list[dict[str, Any]]) -> dict[str, Any]:
    """What the checkpoints of a stack say they belong to; one run alone is its own stack."""
    return {"runs": identities} if identities[1:] else identities[0]


def _open_directory(out: Path, identity: dict[str, Any]) -> None:
    """Make the directory of a run and note in config.yaml what it is, or check that it already is this run's.

    Raises:
        TrainingError: the directory belongs to a run with other settings, data or device.
    """
    file = out / "config.yaml"
    if file.exists():
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        found.pop("git_commit")
        if differences := list_differences(found, identity):
            raise TrainingError(
                f"{out}: holds another run: {'; '.join(differences)}. Repeat the settings and data it was "
                "started with, or start anew with --force or another --out."
            )
        return
    with new_file(file) as temporary:
        values = identity | {"git_commit": git_commit()}
        temporary.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _new_learner(
    runs: Sequence[Run],
    models: Sequence[Any],
    data: TrainingData,
    device: torch.device,
    runtime: RuntimeSettings,
) -> ConservativeQLearning | BehaviorCloning:
    """A learner with the initial weights of `models`; a single run has no model dimension."""
    shared = {run.settings.model_dump_json(exclude=OF_EACH_MODEL) for run in runs}
    if len(shared) != 1:
        raise TrainingError(
            f"A stack's runs may differ only in {sorted(OF_EACH_MODEL)}; found {sorted(shared)}."
        )
    settings = runs[0].settings
    network = TrainableNetwork(
        [model.net for model in models],
        [run.settings.learning_rate for run in runs],
        grad_clip=settings.grad_clip,
        device=device,
        reduced_precision=runtime.precision == "bf16",
    )
    buffer = resident_buffer(data.transitions, models[0], device, network.inputs_dtype)
    if settings.algorithm == "behavior_cloning":
        return BehaviorCloning(network, buffer)
    rewards = torch.stack(
        [torch.tensor(data.rewards[run.settings.reward_variant], dtype=torch.float32) for run in runs]
    )
    rewards = rewards.to(device)
    return ConservativeQLearning(
        network,
        buffer,
        rewards if len(runs) > 1 else rewards[0],
        alphas=[run.settings.alpha for run in runs],
        gamma=settings.gamma,
        target_update_epochs=settings.target_update_epochs,
    )
