"""Every file of a package but its card, made from the sources: bytes that we wrote and nobody else."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch.optim import Adam

from sepsis_cql.checkpoints.hub_package import (
    CONFIG,
    PREPROCESSOR,
    WEIGHTS,
    new_feature_extractor,
    new_network,
    shipped_features,
)
from sepsis_cql.checkpoints.original_pt import describe_checkpoint, dump_checkpoint
from sepsis_cql.common.errors import CheckpointError, PublishingError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.evaluation.evaluate import original_fields, original_file
from sepsis_cql.feature_extraction_sepsis_cql import SepsisCQLFeatureExtractor
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.pipeline_sepsis_cql import TASK, SepsisTreatmentPipeline
from sepsis_cql.publishing.evidence import MOMENTS, RECORDS, Moments, Records, Sources, dump_weights
from sepsis_cql.publishing.guard.build import describe_training_data
from sepsis_cql.publishing.guard.strict_json import dump_json, dump_record
from sepsis_cql.publishing.guard.study import FOLDER, make_stage_files
from sepsis_cql.publishing.probes import PROBES, make_probes
from sepsis_cql.training.data import describe_outputs, largest_return
from sepsis_cql.training.learners.registry import parse_settings

LICENSE = "LICENSE"


def make_files(sources: Sources) -> dict[str, bytes]:
    """Return the package without pictures and card, by path.

    Raises:
        PublishingError: the weights are not those of the network that the records describe.
    """
    records, model = sources.records, make_network(sources)
    run, name = records.training, f"model/{records.checkpoint}"
    facts = {"metrics": run.losses, "device_meta": run.runtime.model_dump(mode="json"), "timestamp": 0.0}
    manifest = describe_checkpoint(model, run.epochs, run.global_step, facts)
    files = {
        CONFIG: describe_network(records),
        PREPROCESSOR: describe_extractor(records),
        WEIGHTS: dump_weights(sources.tensors),
        f"{name}.pt": dump_checkpoint(model, run.epochs, run.global_step, _optimizer(model, sources)),
        f"{name}_manifest.json": dump_json(manifest),
        PROBES: dump_json(make_probes(model)),
        **{path: dump_record(found) for part, path in RECORDS.items() if (found := getattr(records, part))},
    }
    if records.evaluation.published is not None:
        fields = original_fields(records.evaluation) | {"checkpoint": f"{name}.pt"}
        files[f"{FOLDER}/{original_file(records.evaluation.split)}"] = dump_json(fields)
    stages = {} if records.study is None else make_stage_files(records.study)
    return files | {path: dump_json(contents) for path, contents in stages.items()}


def make_network(sources: Sources) -> SepsisCQLModel:
    """Return the network of the sources, in evaluation mode.

    Raises:
        PublishingError: the weights are not those of the network that the records describe.
    """
    try:
        config = SepsisCQLConfig.from_dict(json.loads(describe_network(sources.records)))
        return new_network(config, dict(sources.tensors), Path(WEIGHTS))
    except (CheckpointError, StrictDataclassError, ValueError, TypeError):
        raise PublishingError(f"{WEIGHTS}: other tensors than those of the network in its records") from None


def describe_network(records: Records) -> bytes:
    """Return config.json: all of it follows from the records and from this version's code."""
    build, training = records.build, records.training
    settings, grid, extractor = training.settings, build.action_grid, extractor_of(records)
    modeling = "modeling_sepsis_cql"
    pipeline = {"impl": f"pipeline_sepsis_cql.{SepsisTreatmentPipeline.__name__}", "pt": ["AutoModel"]}
    return _sorted_json(
        {
            "model_type": SepsisCQLConfig.model_type,
            "architectures": [SepsisCQLModel.__name__],
            "auto_map": {
                "AutoConfig": f"configuration_sepsis_cql.{SepsisCQLConfig.__name__}",
                "AutoModel": f"{modeling}.{SepsisCQLModel.__name__}",
            },
            "custom_pipelines": {TASK: pipeline},
            "dtype": "float32",
            "transformers_version": training.versions.get("transformers"),
            "state_names": extractor.state_names,
            "missing_flags": [name for name in extractor.state_names if name.endswith("_missing")],
            "n_actions": 25,
            **grid.model_dump(exclude={"counts"}),
            "hidden_sizes": settings["hidden_sizes"],
            "algorithm": settings["algorithm"],
            **describe_outputs(parse_settings(settings)),
            "gamma": settings.get("gamma"),
            "alpha": settings.get("alpha"),
            "reward_variant": settings["reward_variant"],
            "attainable_return": largest_return(build.settings, settings["reward_variant"]),
            "decision_interval_hours": build.settings.step_hours,
            "normalization": f"training split of replay {build.fingerprint}",
            "training_data": describe_training_data(training),
        }
    )


def extractor_of(records: Records) -> SepsisCQLFeatureExtractor:
    """Return the feature extractor of this version for the steps of a build."""
    return new_feature_extractor(shipped_features(records.build.settings.step_hours))


def describe_extractor(records: Records) -> bytes:
    """Return preprocessor_config.json of this version."""
    kind = SepsisCQLFeatureExtractor.__name__
    return _sorted_json(
        {
            "auto_map": {"AutoFeatureExtractor": f"feature_extraction_sepsis_cql.{kind}"},
            "feature_extractor_type": kind,
            "features": extractor_of(records).features,
        }
    )


def shipped_files() -> dict[str, bytes]:
    """Return code, settings and license as the installed package has them."""
    places = [
        ROOT / LICENSE,
        *sorted(ROOT.glob("*_sepsis_cql.py")),
        *sorted((ROOT / "configs").glob("*.yaml")),
    ]
    return {place.relative_to(ROOT).as_posix(): place.read_bytes() for place in places}


def _optimizer(model: SepsisCQLModel, sources: Sources) -> dict[str, Any]:
    """State dict of Adam as PyTorch lays it out; its state is empty unless the moments were asked for."""
    parameters = list(model.parameters())
    state: dict[str, Any] = Adam(
        parameters, lr=sources.records.training.settings["learning_rate"]
    ).state_dict()
    if sources.moments is not None:
        _check_moments(sources.moments, parameters)
        step = torch.tensor(float(sources.records.training.global_step))
        state["state"] = {
            index: {"step": step.clone(), **{name: row[name].clone() for name in MOMENTS}}
            for index, row in enumerate(sources.moments)
        }
    return state


def _check_moments(moments: Moments, parameters: list[torch.nn.Parameter]) -> None:
    shapes = [parameter.shape for parameter in parameters]
    for name in MOMENTS:
        if [row[name].shape for row in moments] != shapes or not all(
            row[name].isfinite().all() for row in moments
        ):
            raise PublishingError("the optimizer's moments are not those of the network")


def _sorted_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")
