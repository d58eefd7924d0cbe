"""What a finished run leaves: model package, checkpoint in the published layout, curves and record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from matplotlib.figure import Figure
from torch import Tensor

from sepsis_cql.checkpoints.hub_package import WEIGHTS, new_feature_extractor, save_package
from sepsis_cql.checkpoints.original_pt import write_original_checkpoint
from sepsis_cql.common.provenance import git_commit, package_versions
from sepsis_cql.common.storage import new_file, replaced_directory, sha256_file, write_json
from sepsis_cql.common.strict import read_record
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.settings import Features
from sepsis_cql.training.data import of_package, set_weights
from sepsis_cql.training.loop import AXES, read_log
from sepsis_cql.training.records import RunIdentity, RunRecord
from sepsis_cql.training.settings import TrainingSettings

RECORD = "training.json"  # written last: its presence says that the run is complete
PANELS = 3  # side by side in the picture of the losses


class RunEnd(TypedDict):
    """The facts of a run that is over, as its `RunRecord` has them."""

    epochs: int
    global_step: int
    resumed_from_epoch: int
    seconds: float
    losses: dict[str, float]
    run: NotRequired[str]


def write_outputs(
    out: Path,
    model: SepsisCQLModel,
    tensors: dict[str, Tensor],
    features: Features,
    identity: RunIdentity,
    end: RunEnd,
) -> RunRecord:
    """Write `package/`, `model/`, `curves.png` and, last of all, `training.json`; returns the record.

    Args:
        out: the run's directory, with its metrics.jsonl.
        model: receives the trained weights.
        tensors: weights, exp_avg, exp_avg_sq (n_parameters,) and step of this run.
        features: of a state, for the feature extractor.
        identity: settings, data and device, for the record.
        end: what the record says besides.
    """
    set_weights(model, identity.settings, tensors["weights"])
    with replaced_directory(out / "package") as package:
        save_package(model, new_feature_extractor(features), package)
    with replaced_directory(out / "model") as directory:
        write_original_checkpoint(
            model,
            directory,
            epoch=end["epochs"],
            global_step=end["global_step"],
            optimizer_state=_adam_state(model, tensors, identity.settings),
            facts={
                "metrics": end["losses"],
                "device_meta": identity.runtime.model_dump(mode="json"),
                "timestamp": 0.0,
            },
        )
    draw_curves([out / "metrics.jsonl"], out / "curves.png")
    record = RunRecord(
        **dict(identity),
        **end,
        weights_sha256=sha256_file(out / "package" / WEIGHTS),
        git_commit=git_commit(),
        versions=package_versions("numpy", "safetensors", "torch", "transformers"),
    )
    write_json(out / RECORD, record.model_dump(mode="json"))
    return record


def read_run_record(run: Path) -> RunRecord:
    """Read the record of a complete run directory."""
    return read_record(RunRecord, run / RECORD, expected="the record of a complete run of `sepsis-cql train`")


def draw_curves(logs: Sequence[Path], file: Path) -> None:
    """Draw the losses of runs, from their `metrics.jsonl`, as a PNG: a panel for each loss, a line for each run."""
    runs = [read_log(log) for log in logs]
    names = [name for name in runs[0][0] if name not in AXES]
    n_rows = -(-len(names) // PANELS)
    figure = Figure(figsize=(3.2 * PANELS, 2.6 * n_rows))
    # fixed margins, in parts of a panel: looking for the best ones takes longer than a short run
    figure.subplots_adjust(
        left=0.18 / PANELS, right=1 - 0.03 / PANELS, bottom=0.17 / n_rows, top=1 - 0.1 / n_rows,
        wspace=0.25, hspace=0.4,
    )  # fmt: skip
    for place, name in enumerate(names, start=1):
        panel = figure.add_subplot(n_rows, PANELS, place)
        for run in runs:
            panel.plot([line["epoch"] for line in run], [line[name] for line in run], linewidth=1)
        panel.set_title(name.replace("_", " "), fontsize=9)
        panel.set_xlabel("epoch", fontsize=9)
        panel.tick_params(labelsize=9)
        panel.ticklabel_format(axis="y", scilimits=(-2, 5))
    with new_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _adam_state(
    model: SepsisCQLModel, tensors: dict[str, Tensor], settings: TrainingSettings
) -> dict[str, Any]:
    """Return the state dict of an Adam over the networks' parameters, as PyTorch would have saved it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    flat = {
        name: torch.cat([*of_package(model, settings, tensors[name]).values()])
        for name in ("exp_avg", "exp_avg_sq")
    }
    start = 0
    for parameter in model.parameters():
        part = slice(start, start := start + parameter.numel())
        moments = {name: value[part].view_as(parameter).cpu().clone() for name, value in flat.items()}
        optimizer.state[parameter] = {"step": tensors["step"].cpu().clone(), **moments}
    return optimizer.state_dict()
