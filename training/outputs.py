"""What a finished run leaves: model package, checkpoint in the published layout, curves and record."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.packages import WEIGHTS, new_feature_extractor, save_package
from sepsis_cql.provenance import git_commit, package_versions
from sepsis_cql.published_checkpoints import write_published_checkpoint
from sepsis_cql.storage import new_directory, sha256_file, write_json
from sepsis_cql.training.curves import draw_curves
from sepsis_cql.training.settings import TrainingSettings

RECORD = "training.json"  # written last: its presence says that the run is complete


def write_outputs(
    out: Path,
    model: SepsisCQLModel,
    tensors: dict[str, Tensor],
    *,
    settings: TrainingSettings,
    identity: dict[str, Any],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Write `package/`, `model/`, `curves.png` and, last of all, `training.json`; returns the record.

    Args:
        out: the run's directory, with its metrics.jsonl.
        model: receives the trained weights.
        tensors: weights, exp_avg, exp_avg_sq (n_parameters,) and step of this run.
        settings: of the run.
        identity: settings, data and device of the run.
        facts: epochs, global_step, losses, seconds and more.
    """
    nn.utils.vector_to_parameters(tensors["weights"].cpu(), model.net.parameters())
    with new_directory(out / "package", force=True) as package:
        save_package(model, new_feature_extractor(), package)
    with new_directory(out / "model", force=True) as directory:
        write_published_checkpoint(
            model,
            directory,
            epoch=facts["epochs"],
            global_step=facts["global_step"],
            optimizer_state=_adam_state(model, tensors, settings.learning_rate),
            facts={"metrics": facts["losses"], "device_meta": identity["runtime"], "timestamp": 0.0},
        )
    draw_curves([out / "metrics.jsonl"], out / "curves.png")
    record = {
        "algorithm": settings.algorithm,
        **identity,
        **facts,
        "weights_sha256": sha256_file(out / "package" / WEIGHTS),
        "git_commit": git_commit(),
        "versions": package_versions("numpy", "safetensors", "torch", "transformers"),
    }
    write_json(out / RECORD, record)
    return record


def _adam_state(model: SepsisCQLModel, tensors: dict[str, Tensor], learning_rate: float) -> dict[str, Any]:
    """State dict of an Adam over the network's parameters, as PyTorch would have saved it."""
    optimizer = torch.optim.Adam(model.net.parameters(), lr=learning_rate)
    start = 0
    for parameter in model.net.parameters():
        part = slice(start, start := start + parameter.numel())
        moments = {
            name: tensors[name][part].view_as(parameter).cpu().clone() for name in ("exp_avg", "exp_avg_sq")
        }
        optimizer.state[parameter] = {"step": tensors["step"].cpu().clone(), **moments}
    return optimizer.state_dict()
