"""README.md, the model card: a pure function of card.yaml, config.json and the evidence beside it."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from sepsis_cql.checkpoints.hub_package import CONFIG
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.privacy import SMALLEST_CELL
from sepsis_cql.common.storage import new_file
from sepsis_cql.common.strict import Settings, load_shipped
from sepsis_cql.evaluation.estimators.table import ESTIMATORS, list_captions
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.report.results import (
    find_bias,
    find_published,
    find_result,
    say_difference,
    say_estimate,
)
from sepsis_cql.publishing.evidence import RECORDS, Records, feature_rows, read_records
from sepsis_cql.publishing.package import describe_network

README = "README.md"


class Author(Settings):
    """Who made the model."""

    name: str
    identifier: str
    affiliation: str


class Source(Settings):
    """What weights trained on one source are, and what follows from it."""

    label: str
    url: str | None
    license: str
    implication: str


class Reference(Settings):
    """One cited work."""

    text: str
    doi: str


class CardSettings(Settings):
    """The whole of `configs/card.yaml`."""

    title: str
    repository: str
    published_card: str
    published_code: str
    license: str
    tags: list[str]
    author: Author
    sources: dict[str, Source]
    limitations: list[str]
    bibtex: str
    references: list[Reference]


def write_card(package: Path) -> Path:
    """Render README.md of a package directory from the files in it."""
    file = package / README
    text = _render(load_facts(package))
    with new_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def check_card(package: Path) -> None:
    """Compare README.md and config.json with what the records beside them say.

    Raises:
        PublishingError: they differ; the first differing line is named.
    """
    file, facts = package / README, load_facts(package)
    if not file.is_file():
        raise PublishingError(f"{file}: not found. Run `sepsis-cql card`.")
    if not (package / CONFIG).is_file() or (package / CONFIG).read_bytes() != describe_network(
        facts["records"]
    ):
        raise PublishingError(
            f"{package / CONFIG}: not what the records give that {README} is rendered from."
        )
    found, expected = file.read_text(encoding="utf-8").splitlines(), _render(facts).splitlines()
    if found == expected:
        return
    pairs = zip([*found, ""], [*expected, ""], strict=False)
    line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), min(len(found), len(expected)) + 1)
    raise PublishingError(
        f"{file}: line {line} is not what the settings and results beside it give. Numbers are never written by "
        "hand: run `sepsis-cql card`."
    )


def render_card(records: Records, figures: list[str]) -> str:
    """Return the text of README.md.

    Args:
        records: of build, training and evaluation.
        figures: names of the pictures in `model/figures`, without suffix.
    """
    return _render(_collect(records, figures))


def load_facts(package: Path) -> dict[str, Any]:
    """Return everything the template may show of a package directory.

    Raises:
        PublishingError: a record is absent or not as we write it.
    """
    files = {path: (package / path).read_bytes() for path in RECORDS.values() if (package / path).is_file()}
    try:
        records = read_records(files)
    except PublishingError as error:
        raise PublishingError(f"{package / README}: cannot be rendered: {error}.") from error
    return _collect(records, [file.stem for file in (package / "model" / "figures").glob("*.png")])


def _render(facts: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("sepsis_cql.publishing"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    environment.filters["estimate"] = say_estimate
    environment.filters["difference"] = say_difference
    environment.filters["bias"] = find_bias
    body = environment.get_template("card.md.j2").render(**facts)
    return f"---\n{_metadata(facts)}\n---\n\n{body}"


def _collect(records: Records, figures: list[str]) -> dict[str, Any]:
    settings, evaluation = load_shipped(CardSettings, "card.yaml"), records.evaluation
    return {
        "records": records,
        "card": settings,
        "source": settings.sources[records.build.source.name],
        "config": json.loads(describe_network(records)),
        "build": records.build.model_dump(mode="json"),
        "training": records.training.model_dump(mode="json"),
        "evaluation": evaluation,
        "estimators": {
            name: caption
            for name, caption in list_captions("card").items()
            if any(name in policy.estimates for policy in evaluation.policies)
        },
        "has_truth": any(policy.true_value for policy in evaluation.policies),
        "figures": sorted(f"{name}.png" for name in figures),
        "checkpoints": [f"{records.checkpoint}.pt"],
        "features": feature_rows(),
    }


def _metadata(facts: dict[str, Any]) -> str:
    card, evaluation = facts["card"], facts["evaluation"]
    data = ModelCardData(
        language="en",
        license=card.license,
        library_name="transformers",
        pipeline_tag="reinforcement-learning",
        tags=card.tags,
        model_name=card.title,
        eval_results=_eval_results(facts["source"].label, evaluation),
    )
    return str(data.to_yaml()).strip()


def _eval_results(label: str, evaluation: Evaluation) -> list[EvalResult]:
    """What is a result of the learned policy: the recommended estimate, its truth where known, then the others."""
    dataset = f"{label}, {evaluation.split} split"
    results = []
    learned = next((policy for policy in evaluation.policies if policy.role == "learned"), None)
    if learned is not None:
        difference = learned.difference_to_clinicians
        recommended = difference.estimator if difference else next(iter(learned.estimates), "")
        for metric in sorted(learned.estimates, key=lambda name: name != recommended):
            if found := find_result(learned, metric, evaluation.bound):
                ends = {"lower": found.lower, "upper": found.upper}
                arguments = {**ends, "method": learned.estimates[metric].method}
                results.append(_result(dataset, metric, ESTIMATORS[metric].caption, found.value, arguments))
        if true := learned.true_value:
            error = {"standard_error": true.standard_error, "method": "the policy played in the simulator"}
            results.insert(1, _result(dataset, "true_value", "true value", true.value, error))
    if published := evaluation.published:
        for metric in ("fqe", "wis"):
            name = f"{metric.upper()} mean, published definition"
            if found := find_published(published, metric, evaluation.bound):
                ends = {"lower": found.lower, "upper": found.upper}
                results.append(_result(dataset, f"{metric}_published", name, found.value, ends))
        if published.ess >= SMALLEST_CELL:
            results.append(_result(dataset, "ess_published", "ESS, published definition", published.ess, {}))
    return results


def _result(dataset: str, kind: str, name: str, value: float, arguments: dict[str, Any]) -> EvalResult:
    return EvalResult(
        task_type="reinforcement-learning",
        task_name="offline reinforcement learning",
        dataset_type="sepsis-replay",
        dataset_name=dataset,
        metric_type=kind,
        metric_name=name,
        metric_value=round(float(value), 6),
        metric_args={k: round(v, 6) if isinstance(v, float) else v for k, v in arguments.items()} or None,
    )


def _number(value: float | int | str | None, digits: int = 2) -> str:
    if value is None:
        return "not shown"
    return (
        f"{value:,.{digits}f}"
        if isinstance(value, float)
        else (f"{value:,}" if isinstance(value, int) else value)
    )
