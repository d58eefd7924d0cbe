"""Model packages: written with the code that loads them, read without running any code they hold."""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor
from transformers.utils import logging

from sepsis_cql.common.errors import CheckpointError
from sepsis_cql.common.storage import errno_of, read_json
from sepsis_cql.common.strict import Settings, load_shipped
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.feature_extraction_sepsis_cql import SepsisCQLFeatureExtractor
from sepsis_cql.modeling_sepsis_cql import IDENTITY, SepsisCQLModel
from sepsis_cql.pipeline_sepsis_cql import TASK, SepsisTreatmentPipeline
from sepsis_cql.replay.settings import Features

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
SIZE_LIMIT = 64 * 2**20  # bytes; the published network has 0.35 MB
MOST_NAMES, LONGEST_NAME = 10, 100  # of tensors in a message
MOST_INPUTS, MOST_LAYERS = 4096, 64
# Fields of config.json that older packages lack, and that a package need not write where they say nothing new.
LATER_FIELDS = {"attainable_return", "smallest_share", "factored", "hidden_units"}
LIBRARY_KEYS = {"model_type", "auto_map", "custom_pipelines"}  # of config.json, beside the fields


class FeatureInput(Settings):
    """What the feature extractor checks of one feature beyond `configs/features.yaml`."""

    valid: tuple[float, float] | None = None
    hint: str = ""


class FeatureInputs(Settings):
    """`configs/feature_inputs.yaml`."""

    feature_inputs: dict[str, FeatureInput]


def shipped_features(step_hours: int = 4) -> Features:
    """Return the features of `configs/features.yaml`, named and bounded for steps of so many hours."""
    return load_shipped(Features, "features.yaml").of_windows(step_hours)


def new_feature_extractor(features: Features | None = None) -> SepsisCQLFeatureExtractor:
    """Return a feature extractor with the units, bounds, flags and carrying rules a replay is built with.

    Args:
        features: of the replay; the shipped ones by default.
    """
    features = features or shipped_features()
    inputs = load_shipped(FeatureInputs, "feature_inputs.yaml").feature_inputs
    facts = []
    for name, feature in features.features.items():
        checks = inputs.get(name.removesuffix(f"_{feature.per_hours}h"), FeatureInput())
        bounds = checks.valid or feature.valid or feature.clip
        facts.append(
            {
                "name": name,
                "unit": feature.unit,
                "low": bounds[0],
                "high": bounds[1],
                "flag": feature.flag,
                "carry": feature.carry,
                "hint": checks.hint,
            }
        )
    return SepsisCQLFeatureExtractor(features=facts)


def save_package(
    model: SepsisCQLModel, feature_extractor: SepsisCQLFeatureExtractor, directory: Path
) -> None:
    """Write a package that AutoModel, AutoFeatureExtractor and `pipeline` load with trust_remote_code.

    Args:
        model: network with its normalizer.
        feature_extractor: must produce the model's inputs in the model's order.
        directory: receives config.json, model.safetensors, preprocessor_config.json and the code files.

    Raises:
        CheckpointError: the feature extractor and the model disagree on the inputs.
    """
    if feature_extractor.state_names != model.config.state_names:
        raise CheckpointError(
            "The feature extractor's state_names differ from the model's. Build both from the same features."
        )
    logging.disable_progress_bar()  # one small file
    pipeline = SepsisTreatmentPipeline(
        model=model, feature_extractor=feature_extractor, task=TASK, device=model.device
    )
    pipeline.save_pretrained(directory)


def load_package(path_or_id: str | Path, revision: str | None = None) -> SepsisCQLModel:
    """Read a package with this repository's own classes, in evaluation mode on the CPU.

    Args:
        path_or_id: a directory, or a Hub id such as `name/sepsis-cql`.
        revision: tag, branch or commit of a Hub id.

    Raises:
        CheckpointError: a file is missing, damaged, or too large, or config and weights disagree.
    """
    directory = _locate(path_or_id, revision)
    config, weights = _read_config(directory / CONFIG), directory / WEIGHTS
    return new_network(config, parse_weights(read_small_file(weights), weights), weights)


def new_network(config: SepsisCQLConfig, tensors: dict[str, Tensor], source: Path) -> SepsisCQLModel:
    """Return the network that a configuration and weights make together, in evaluation mode.

    Args:
        config: of the network.
        tensors: weights and normalizer.
        source: file that they come from, for the error message.

    Raises:
        CheckpointError: config and weights disagree.
    """
    model = _outline(config, source)
    check_weights(tensors, model.state_dict(), source)
    _check_normalizer(tensors, config, source)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def new_plain_network(
    config: SepsisCQLConfig, parameters: Mapping[str, Tensor], source: Path
) -> SepsisCQLModel:
    """Return a network that takes normalized inputs, its normalizer being the identity; see `new_network`."""
    expected = dict[str, Tensor](_outline(config, source).named_parameters())
    check_weights(dict(parameters), expected, source)  # before they are copied, or stand for the normalizer
    normalizer = {name: torch.full((len(config.state_names),), value) for name, value in IDENTITY.items()}
    network = {name: value.clone(memory_format=torch.contiguous_format) for name, value in parameters.items()}
    return new_network(config, {**normalizer, **network}, source)


def _outline(config: SepsisCQLConfig, source: Path) -> SepsisCQLModel:
    """Return a network without numbers, unless no file of ours could hold it."""
    widths = [len(config.state_names), *config.hidden_sizes]
    size = 4 * sum(first * second for first, second in pairwise(widths))  # bytes
    if len(widths) > MOST_LAYERS + 1 or size > SIZE_LIMIT:
        raise CheckpointError(
            f"{source}: found {len(widths) - 1} hidden layers of {size} bytes, expected at most {MOST_LAYERS} of "
            f"{SIZE_LIMIT} bytes together. Correct hidden_sizes."
        )
    with torch.device("meta"):
        return SepsisCQLModel(config)


def check_weights(found: dict[str, Tensor], expected: dict[str, Tensor], source: Path) -> None:
    """Refuse tensors whose names, shapes or types differ from the expected ones, or that are not finite.

    Raises:
        CheckpointError: naming the first kind of difference and the tensors that have it.
    """
    both = sorted(set(expected) & set(found))
    checks: dict[str, Iterable[str]] = {
        "missing": sorted(set(expected) - set(found)),
        "unexpected": sorted(set(found) - set(expected)),
        **{
            f"of another {what}": [
                f"{name} (found {getattr(found[name], what)}, expected {getattr(expected[name], what)})"
                for name in both
                if getattr(found[name], what) != getattr(expected[name], what)
            ]
            for what in ("shape", "dtype")
        },
        # looked for last, and only then: a shape can claim more numbers than there are
        "holding NaN or infinity": (name for name in both if not found[name].isfinite().all()),
    }
    for problem, names in checks.items():
        if listed := list(names):
            shown = [name[:LONGEST_NAME] for name in listed[:MOST_NAMES]]
            more = f" and {len(listed) - MOST_NAMES} more" if len(listed) > MOST_NAMES else ""
            raise CheckpointError(
                f"{source}: tensors {problem}: {', '.join(shown)}{more}. Obtain an undamaged file, or the "
                "configuration that belongs to it."
            )


def _locate(path_or_id: str | Path, revision: str | None) -> Path:
    path = Path(path_or_id)
    if path.is_dir():
        if revision is not None:
            raise CheckpointError(f"{path}: found a directory; a revision ({revision}) is for Hub ids only.")
        return path
    try:
        return Path(
            snapshot_download(
                str(path_or_id), revision=revision, allow_patterns=[CONFIG, WEIGHTS, PREPROCESSOR]
            )
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        if errno_of(error) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            raise
        raise CheckpointError(
            f"{path_or_id}: neither a directory here nor a model the Hub gave ({error}). Check the path, or "
            "the id, revision and login."
        ) from error


def read_small_file(file: Path) -> bytes:
    """Return the bytes of a file no larger than a package's file may be.

    Raises:
        CheckpointError: the file is absent or larger.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: not found. Expected a model package or checkpoint.")
    if (size := file.stat().st_size) > SIZE_LIMIT:
        raise CheckpointError(f"{file}: found {size} bytes, expected at most {SIZE_LIMIT}. Not one of ours.")
    return file.read_bytes()


def _read_config(file: Path) -> SepsisCQLConfig:
    read_small_file(file)
    values = read_json(file, expected="a model package's config.json")
    own = {field.name for field in fields(SepsisCQLConfig)}
    found_type = values.get("model_type") if isinstance(values, dict) else type(values).__name__
    if found_type != SepsisCQLConfig.model_type:
        raise CheckpointError(
            f"{file}: model_type is {found_type!r}, expected 'sepsis_cql'. `sepsis-cql import-checkpoint` makes a "
            "package of another study's actor."
        )
    if unknown := sorted(set(values) - own - LIBRARY_KEYS):
        raise CheckpointError(f"{file}: fields {unknown} unknown. Remove them, or correct their spelling.")
    if missing := sorted(set(SepsisCQLConfig.__annotations__) - set(values) - LATER_FIELDS):
        raise CheckpointError(f"{file}: fields {missing} missing. Write the package again.")
    if values.get("dtype") not in (None, "float32"):
        raise CheckpointError(f"{file}: dtype is {values['dtype']!r}, expected 'float32'.")
    if long := sorted(name for name, value in values.items() if _is_long(value)):
        raise CheckpointError(f"{file}: fields {long} have more than {MOST_INPUTS} values. Not one of ours.")
    try:
        config = SepsisCQLConfig.from_dict(values)
        _outline(config, file)
        return config
    except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _is_long(value: object) -> bool:
    return isinstance(value, list | dict) and len(value) > MOST_INPUTS


def parse_weights(content: bytes, file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        CheckpointError: it is not one.
    """
    try:
        return parse_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file}: not an intact safetensors file ({error}).") from error


def _check_normalizer(tensors: dict[str, Tensor], config: SepsisCQLConfig, source: Path) -> None:
    is_identity = all(bool((tensors[name] == value).all()) for name, value in IDENTITY.items())
    if is_identity != (config.normalization == "identity"):
        raise CheckpointError(
            f"{source.parent}: config.normalization is {config.normalization!r}, but the normalizer in the "
            f"weights {'does nothing' if is_identity else 'is not the identity'}. One of the two is wrong."
        )
    if (tensors["scale"] <= 0).any() or (tensors["clip_low"] > tensors["clip_high"]).any():
        raise CheckpointError(f"{source}: expected positive scale and clip_low <= clip_high.")
