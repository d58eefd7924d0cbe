"""Published `.pt` checkpoints: read without unpickling code, written in the same layout."""

import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from sepsis_cql.checkpoints.hub_package import SIZE_LIMIT, new_plain_network, read_small_file
from sepsis_cql.checkpoints.iql_actor import actor_model, flatten_networks, names_an_actor
from sepsis_cql.common.errors import CheckpointError
from sepsis_cql.common.storage import new_file, read_json, write_json
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.modeling_sepsis_cql import IDENTITY, SepsisCQLModel

KEYS = {"model_state_dict": Mapping, "epoch": int, "global_step": int, "optimizer_state_dict": Mapping}
# All that tensors in dictionaries need. Torch itself allows more, some of it able to exhaust memory.
PICKLE_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in ("BFloat16", "Half", "Float", "Double", "Int", "Long", "Bool")),
}
CODE_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
# Fields of a configuration that say how to read its networks, and what they are where a manifest has none.
OF_OUTPUTS: dict[str, Any] = {"smallest_share": None, "factored": False, "hidden_units": "rectified"}
# What of a foreign manifest is taken over in words: one short line with no number as long as an identifier.
PLAIN_TEXT = re.compile(r"(?!.*\d[\d,]{6})[A-Za-z][\w .,:;()/-]{0,159}", re.ASCII)
DAMAGE = (  # what torch raises on a pickle that is none
    UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, EOFError, AttributeError, AssertionError,
    OverflowError,
)  # fmt: skip
INPUTS_NOTE = (
    "The network in this file takes NORMALISED inputs, in this order: "
    "(where(isnan(x), fill, clip(x, clip_low, clip_high)) - mean) / scale, x in clinical units."
)


@dataclass(frozen=True)
class OriginalCheckpoint:
    """A `.pt` file of the published layout; its network takes normalized inputs.

    Attributes:
        file: where it was read.
        model_state_dict: net.0, net.2, net.4 weights and biases.
        epoch: epochs trained.
        global_step: optimizer steps taken.
        optimizer_state_dict: state of Adam.
        manifest: the `..._manifest.json` beside it; empty if there is none.
    """

    file: Path
    model_state_dict: dict[str, Tensor]
    epoch: int
    global_step: int
    optimizer_state_dict: dict[str, Any]
    manifest: dict[str, Any]


def read_original_checkpoint(file: Path) -> OriginalCheckpoint:
    """Read a `.pt` checkpoint and its manifest; nothing in either is executed.

    Raises:
        CheckpointError: the file is damaged, too large once unpacked, asks for code, or has another layout.
    """
    file = Path(file)
    values = parse_checkpoint(read_small_file(file), file)
    return OriginalCheckpoint(
        file=file, manifest=_read_manifest(file, values["epoch"], values["global_step"]), **values
    )


def parse_checkpoint(content: bytes, file: Path) -> dict[str, Any]:
    """Return the values under the keys of the original layout; nothing of the file is executed.

    Raises:
        CheckpointError: the file is damaged, too large once unpacked, asks for code, or has another layout.
    """
    values = load_archive(content, file)
    found = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
    if found != sorted(KEYS):
        raise CheckpointError(f"{file}: holds {found}, expected {sorted(KEYS)}.")
    for key, expected in KEYS.items():
        if not isinstance(values[key], expected):
            raise CheckpointError(
                f"{file}: {key} is {type(values[key]).__name__}, expected {expected.__name__}."
            )
    state = flatten_networks(values["model_state_dict"])
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file}: model_state_dict holds something other than tensors.")
    return {**values, "model_state_dict": state}


def load_archive(content: bytes, file: Path) -> Any:
    """Return what a torch archive holds, which is tensors in dictionaries; nothing of the file is executed.

    Raises:
        CheckpointError: the archive is damaged, too large once unpacked, or asks for code.
    """
    _check_archive(content, file)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise CheckpointError(f"{file}: not an intact checkpoint ({error}).") from error


def model_from_checkpoint(checkpoint: OriginalCheckpoint) -> SepsisCQLModel:
    """Return the checkpoint's network in evaluation mode, with the identity as its normalizer.

    Raises:
        CheckpointError: parameters are not those of a 62-input, 25-action network, or not finite.
    """
    state = checkpoint.model_state_dict
    if names_an_actor(list(state)):
        return actor_model(state, checkpoint.file)
    weights = [f"net.{2 * layer}.weight" for layer in range(len(state))]
    widths = [len(state[name]) for name in weights if name in state and state[name].ndim]
    config = _config(checkpoint, hidden_sizes=widths[:-1] or [256, 256])
    return new_plain_network(config, state, checkpoint.file)


def write_original_checkpoint(
    model: SepsisCQLModel,
    directory: Path,
    *,
    epoch: int,
    global_step: int,
    optimizer_state: dict[str, Any],
    facts: dict[str, Any],
) -> Path:
    """Write `cql_epoch0200_step0007000.pt`, named after its algorithm, and its manifest, in the original layout.

    Args:
        model: its networks are written; its normalizer and configuration go to the manifest.
        directory: receives both files.
        epoch: epochs trained.
        global_step: optimizer steps taken.
        optimizer_state: `state_dict()` of the optimizer.
        facts: what else the manifest shall tell, such as metrics, device_meta and timestamp.

    Returns:
        Path of the `.pt` file.
    """
    file = directory / f"{checkpoint_name(model.config.algorithm, epoch, global_step)}.pt"
    content = dump_checkpoint(model, epoch, global_step, optimizer_state)
    with new_file(file) as temporary:
        temporary.write_bytes(content)
    write_json(_manifest_file(file), describe_checkpoint(model, epoch, global_step, facts))
    return file


def checkpoint_name(algorithm: str, epoch: int, global_step: int) -> str:
    """Return the name of a checkpoint in the original layout, without its suffix."""
    return f"{algorithm}_epoch{epoch:04d}_step{global_step:07d}"


def dump_checkpoint(
    model: SepsisCQLModel, epoch: int, global_step: int, optimizer_state: dict[str, Any]
) -> bytes:
    """Return the bytes of a checkpoint in the original layout, the same for the same contents."""
    state = {name: value.detach().cpu() for name, value in model.named_parameters()}
    values = {
        "model_state_dict": state,
        "epoch": epoch,
        "global_step": global_step,
        "optimizer_state_dict": optimizer_state,
    }
    buffer = io.BytesIO()  # torch.save would write the name of a temporary file into the archive
    torch.save(values, buffer)
    return buffer.getvalue()


def describe_checkpoint(
    model: SepsisCQLModel, epoch: int, global_step: int, facts: dict[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a checkpoint."""
    config = model.config
    return {
        **facts,
        "algorithm": config.algorithm,
        "outputs": config.outputs,
        **{name: value for name in OF_OUTPUTS if (value := getattr(config, name)) != OF_OUTPUTS[name]},
        "epoch": epoch,
        "global_step": global_step,
        "training_data": config.training_data,
        "config_dict": {
            "gamma": config.gamma,
            "extra": {
                **({} if config.alpha is None else {"cql_alpha": config.alpha}),
                "hidden_sizes": config.hidden_sizes,
                "reward_variant": config.reward_variant,
            },
        },
        "inputs": {
            "note": INPUTS_NOTE,
            "normalization": config.normalization,
            "normalizer": {"names": config.state_names}
            | {name: getattr(model, name).tolist() for name in IDENTITY},
        },
    }


def _check_archive(content: bytes, file: Path) -> None:
    """Refuse archives that are damaged, unpack to more than they hold, or ask for more than weights."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_entries(archive.infolist(), file)
            if damaged := archive.testzip():
                raise CheckpointError(f"{file}: not an intact torch archive (checksum of {damaged}).")
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            opcodes = [opcode for name in pickles for opcode in pickletools.genops(archive.read(name))]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{file}: not an intact torch archive ({error}).") from error
    asked = {str(argument) for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"} - PICKLE_GLOBALS
    asked |= {opcode.name for opcode, _, _ in opcodes} & CODE_OPCODES
    if asked:
        raise CheckpointError(
            f"{file}: asks to load {sorted(asked)}, expected weights only. It may be malicious; do not open "
            "it with pickle or torch.load(weights_only=False)."
        )


def _check_entries(entries: list[zipfile.ZipInfo], file: Path) -> None:
    size = sum(entry.file_size for entry in entries)
    if size > SIZE_LIMIT or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{file}: unpacks to {size} bytes, expected stored entries of at most {SIZE_LIMIT} bytes "
            "together. A checkpoint is not compressed; do not open this file."
        )
    if len({entry.filename for entry in entries}) != len(entries):
        raise CheckpointError(f"{file}: repeats a name in its archive; do not open this file.")


def _read_manifest(file: Path, epoch: int, global_step: int) -> dict[str, Any]:
    path = _manifest_file(file)
    if not path.is_file():
        return {}
    read_small_file(path)
    manifest = read_json(path, expected="the manifest of a published checkpoint")
    if not isinstance(manifest, dict):
        raise CheckpointError(f"{path}: found {type(manifest).__name__}, expected an object.")
    found = (manifest.get("epoch"), manifest.get("global_step"))
    if found != (epoch, global_step):
        raise CheckpointError(
            f"{path}: describes epoch and step {found}, the checkpoint holds {(epoch, global_step)}. "
            "Put the manifest that belongs to it beside it, or remove it."
        )
    return manifest


def _config(checkpoint: OriginalCheckpoint, hidden_sizes: list[int]) -> SepsisCQLConfig:
    try:
        settings = checkpoint.manifest.get("config_dict", {})
        extra = settings.get("extra", {})
        source = checkpoint.manifest.get("training_data") or settings.get("dataset_path") or "not named"
        if not (isinstance(source, str) and PLAIN_TEXT.fullmatch(source)):
            source = "not named"
        return SepsisCQLConfig(
            algorithm=checkpoint.manifest.get("algorithm", "cql"),
            outputs=checkpoint.manifest.get("outputs", "values"),
            **{name: checkpoint.manifest.get(name, value) for name, value in OF_OUTPUTS.items()},
            hidden_sizes=hidden_sizes,
            gamma=settings.get("gamma", 0.99),
            alpha=extra.get("cql_alpha"),
            reward_variant=extra.get("reward_variant"),
            training_data=f"{source} (checkpoint {checkpoint.file.name})",
        )
    except (StrictDataclassError, AttributeError) as error:
        raise CheckpointError(f"{_manifest_file(checkpoint.file)}: {error}") from error


def _manifest_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}_manifest.json")
