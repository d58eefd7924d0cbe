"""Checkpoints that exist whole or not at all, and that know what run they belong to."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sepsis_cql.common.errors import CheckpointError, TrainingError
from sepsis_cql.common.storage import new_file, parse_finite

KEY = "sepsis_cql_checkpoint"  # of the file's metadata
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a whole number of epochs.

    Attributes:
        epoch: epochs done.
        global_step: optimizer steps done.
        tensors: the learner's state.
    """

    epoch: int
    global_step: int
    tensors: dict[str, Tensor]


def save_checkpoint(directory: Path, checkpoint: Checkpoint, identity: dict[str, Any], *, keep: int) -> Path:
    """Write `epoch_0020.safetensors` of the run that `identity` describes, then remove all but the newest `keep`."""
    tensors = {name: value.cpu().contiguous() for name, value in checkpoint.tensors.items()}
    facts = {
        "format": FORMAT,
        "epoch": checkpoint.epoch,
        "global_step": checkpoint.global_step,
        "identity": identity,
        "sha256": _digest(tensors),
    }
    path = directory / f"epoch_{checkpoint.epoch:04d}.safetensors"
    with new_file(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={KEY: json.dumps(facts)}))
    for old in list_checkpoints(directory)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(directory.glob("epoch_*.safetensors"))


def load_checkpoint(path: Path, identity: dict[str, Any]) -> Checkpoint:
    """Read a checkpoint of the run described by `identity`.

    Raises:
        CheckpointError: the file is damaged or is not a checkpoint.
        TrainingError: it belongs to a run with other settings, data or device; the difference is shown.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: damaged ({error}). Remove it to resume from the checkpoint before it."
        ) from error
    if KEY not in metadata:
        raise CheckpointError(
            f"{path}: not a training checkpoint of sepsis-cql. Remove it from the run's folder."
        )
    try:
        facts = parse_finite(metadata[KEY])
        known = [facts[name] for name in ("format", "epoch", "global_step", "identity", "sha256")]
    except (ValueError, TypeError, KeyError, RecursionError):
        known = []
    if not known or not all(isinstance(facts[name], int) for name in ("epoch", "global_step")):
        raise CheckpointError(
            f"{path}: damaged (its facts are not those we write). Remove it to resume from the one before it."
        )
    if facts["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {facts['format']}, expected {FORMAT}. Start the run again.")
    if facts["sha256"] != _digest(tensors):
        raise CheckpointError(
            f"{path}: damaged (its SHA-256 differs). Remove it to resume from the one before it."
        )
    refuse_differences(f"{path}: belongs to another run", facts["identity"], identity)
    return Checkpoint(facts["epoch"], facts["global_step"], tensors)


def tensors_of_model(tensors: dict[str, Tensor], index: int, n_parts: int = 1) -> dict[str, Tensor]:
    """Return the state of one of several models trained together; they share the step count.

    Args:
        tensors: (..., n_parameters) each, the models one after the other, or () of all together.
        index: of the model.
        n_parts: networks of each model, which become one (n_parts * n_parameters,) tensor.
    """
    return {
        name: value if value.ndim == 0 else value.view(-1, n_parts * value.shape[-1])[index]
        for name, value in tensors.items()
    }


def refuse_differences(what: str, found: Any, expected: Any) -> None:
    """Refuse to go on with a run or sweep that is another one than asked for.

    Raises:
        TrainingError: two nested values differ; each leaf in which they do is shown.
    """
    if differences := _list_differences(found, expected):
        raise TrainingError(
            f"{what}: {'; '.join(differences)}. Repeat the settings and data it was started with, or start anew with "
            "--force or another --out."
        )


def _list_differences(found: Any, expected: Any, name: str = "") -> list[str]:
    """Return one line for each leaf in which two nested values differ: `settings.alpha: was 0.05, now 0.5`."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = sorted(found.keys() | expected.keys())
        parts = [
            _list_differences(found.get(key), expected.get(key), f"{name}.{key}".strip(".")) for key in keys
        ]
        return [line for part in parts for line in part]
    return [] if found == expected else [f"{name}: was {found}, now {expected}"]


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
