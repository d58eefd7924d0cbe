"""The explorer: one static page in which a browser runs the network, for a report or a static Space of the Hub."""

import base64
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import Field, ValidationError
from torch import Tensor
from torch.nn import Linear

from sepsis_cql.checkpoints.example import example_patient
from sepsis_cql.checkpoints.hub_package import load_package, new_feature_extractor
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.storage import new_directory
from sepsis_cql.common.strict import Settings, load_shipped
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.report.style import name_doses
from sepsis_cql.feature_extraction_sepsis_cql import NEVER_ABOVE, RATIOS
from sepsis_cql.modeling_sepsis_cql import IDENTITY, SepsisCQLModel
from sepsis_cql.publishing.evidence import Records
from sepsis_cql.publishing.guard.disclosure import reduce_evaluation
from sepsis_cql.publishing.guard.evaluation import PublishedEvaluation
from sepsis_cql.publishing.guard.strict_json import dump_json
from sepsis_cql.replay.directory import Replay

PAGE, SPACE_CARD = "index.html", "README.md"
COURSE_HOURS = 4  # of a step in configs/made_up_courses.yaml
DEFER_WITHIN = 0.5  # of the largest value, to begin with: doses that the network hardly tells apart
SMALLEST_SHARE = 0.01  # of decisions, below which the records say next to nothing of a dose


class Courses(Settings):
    """The whole of `configs/made_up_courses.yaml`: what changes from step to step of each course."""

    courses: dict[str, list[dict[str, float | None]]] = Field(min_length=1)


def made_up_courses() -> dict[str, list[dict[str, float | None]]]:
    """Return the patients of the explorer: for each the values of every step, in clinical units, None where unknown."""
    return {
        name: list(accumulate(steps, lambda known, step: known | step, initial=example_patient()))[1:]
        for name, steps in load_shipped(Courses, "made_up_courses.yaml").courses.items()
    }


def write_space(
    model: SepsisCQLModel, records: Records, out: Path, *, force: bool, inputs: list[Path]
) -> Path:
    """Write a static Space, the page and its card, into a new directory; return the page.

    Args:
        model: the network of the records, in evaluation mode.
        records: of its build, training and evaluation, as they are published.
        out: directory to create.
        force: replace what the same stage made there.
        inputs: what the directory must stay apart from.
    """
    page = render_explorer(model, records.evaluation)
    card = _environment().get_template("space.md.j2").render(network=model.config.algorithm)
    with new_directory(out, "export-space", force=force, inputs=inputs) as directory:
        (directory / PAGE).write_text(page, encoding="utf-8")
        (directory / SPACE_CARD).write_text(card, encoding="utf-8")
    return out / PAGE


def explore_evaluated(package: Path, found: Evaluation, replay: Replay) -> str | None:
    """Return the page of a package for the report of its evaluation: the one that a Space of the run would have.

    Args:
        package: directory of the evaluated network.
        found: its evaluation, with exact numbers; the page has those that may be published.
        replay: that it was evaluated on.

    Returns:
        The page; None of a network that the explorer does not run, or where the replay does not say how it was built.
    """
    if replay.provenance is None:
        return None
    try:
        return render_explorer(load_package(package), reduce_evaluation(found, replay.provenance.settings))
    except (PublishingError, ValidationError):
        return None


def render_explorer(model: SepsisCQLModel, evaluation: PublishedEvaluation) -> str:
    """Return the page as HTML that needs no other file and contacts nobody.

    Raises:
        PublishingError: the network is not one of fully connected layers from clinical units to 25 values or logits.
    """
    data = (
        dump_json(_describe(model, evaluation)).decode("ascii").replace("</", "<\\/")
    )  # ends no script element
    return _environment().get_template("explorer.html.j2").render(data=data)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sepsis_cql.publishing"), undefined=StrictUndefined, keep_trailing_newline=True
    )


def _describe(model: SepsisCQLModel, evaluation: PublishedEvaluation) -> dict[str, Any]:
    config, extractor = model.config, new_feature_extractor()
    is_plain = (
        config.outputs in ("values", "logits") and not config.factored and config.hidden_units == "rectified"
    )
    if config.decision_interval_hours != COURSE_HOURS:
        raise PublishingError(
            f"decision interval {config.decision_interval_hours} h, expected {COURSE_HOURS} h: the made-up patients of "
            "the explorer have steps of that length. Export the other formats."
        )
    if not is_plain or config.normalization == "identity":
        raise PublishingError(
            f"{config.algorithm}: outputs {config.outputs}, factored {config.factored}, hidden units "
            f"{config.hidden_units}, normalization {config.normalization}; the explorer runs plain networks of "
            "25 values or logits that take clinical units."
        )
    low, high = model.clip_low, model.clip_high
    place = {name: index for index, name in enumerate(config.state_names)}
    features = [
        {
            **{key: fact[key] for key in ("name", "unit", "flag", "hint")},
            "low": max(fact["low"], float(low[place[fact["name"]]])),
            "high": min(fact["high"], float(high[place[fact["name"]]])),
            "valid": [fact["low"], fact["high"]],
            "typical": float(model.fill[place[fact["name"]]]),
        }
        for fact in extractor.features
    ]
    layers = [layer for layer in model.net if isinstance(layer, Linear)]
    seen = evaluation.diagnostics
    return {
        "names": config.state_names,
        "features": features,
        "ratios": {name: list(parts) for name, parts in RATIOS.items()},
        "never_above": [list(pair) for pair in NEVER_ABOVE],
        "normalizer": {name: _encode(model.get_buffer(name)) for name in IDENTITY},
        "layers": [
            {"rows": layer.out_features, "weight": _encode(layer.weight), "bias": _encode(layer.bias)}
            for layer in layers
        ],
        "outputs": config.outputs,
        "bound": config.attainable_return,
        "vasopressor": name_doses(config.vasopressor_edges),
        "fluid": name_doses(config.fluid_edges),
        "units": [config.vasopressor_unit, config.fluid_unit],
        "clinicians": seen.clinician_actions if seen else None,
        "courses": made_up_courses(),
        "largest_difference": DEFER_WITHIN,
        "smallest_share": SMALLEST_SHARE,
        "trained_on": config.training_data.partition(":")[0],  # without its counts, which are exact in a run
        "verdict": evaluation.verdict.label,
    }


def _encode(tensor: Tensor) -> str:
    """Base64 of little-endian float32, row by row."""
    return base64.b64encode(tensor.detach().numpy().astype(np.dtype("<f4")).tobytes()).decode("ascii")
