"""README.md, the model card, and docs/results.md, its long tables: a pure function of card.yaml and the evidence."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from sepsis_cql.checkpoints.example import example_patient
from sepsis_cql.checkpoints.hub_package import CONFIG, read_small_file
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.storage import new_file
from sepsis_cql.common.strict import Settings, load_shipped
from sepsis_cql.evaluation.estimators.table import list_captions
from sepsis_cql.evaluation.known_truth.limits import say_limits
from sepsis_cql.evaluation.known_truth.record import MEASURED, CalibrationLine, measured_lines
from sepsis_cql.evaluation.report.figures import FIGURES
from sepsis_cql.evaluation.report.results import find_bias, say_difference, say_estimate, say_published
from sepsis_cql.evaluation.report.study_figure import STUDY_FIGURES
from sepsis_cql.evaluation.study import Study, StudyRun
from sepsis_cql.publishing import numbers
from sepsis_cql.publishing.evidence import RECORDS, Records, feature_rows, read_records
from sepsis_cql.publishing.membership.record import audit_errors
from sepsis_cql.publishing.package import describe_network

README, RESULTS = "README.md", "docs/results.md"
SHOWN = {name: text for name, (_, _, text) in FIGURES.items()} | STUDY_FIGURES  # by the name of a figure
TEMPLATES = {README: "card.md.j2", RESULTS: "results.md.j2"}


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
    publication: str
    calibration: list[str]
    limitations: list[str]
    bibtex: str
    references: list[Reference]


def write_card(package: Path) -> Path:
    """Render README.md and docs/results.md of a package directory from the files in it; return the first."""
    facts = load_facts(package)
    for name in TEMPLATES:
        with new_file(package / name) as temporary:
            temporary.write_text(_render(name, facts), encoding="utf-8")
    return package / README


def check_card(package: Path) -> None:
    """Compare README.md, docs/results.md and config.json with what the records beside them say.

    Raises:
        PublishingError: they differ; the first differing line is named.
    """
    facts = load_facts(package)
    if not (package / CONFIG).is_file() or read_small_file(package / CONFIG) != describe_network(
        facts["records"]
    ):
        raise PublishingError(
            f"{package / CONFIG}: not what the records give that {README} is rendered from."
        )
    for name in TEMPLATES:
        _check_page(package / name, _render(name, facts).splitlines())


def _check_page(file: Path, expected: list[str]) -> None:
    if not file.is_file():
        raise PublishingError(f"{file}: not found. Run `sepsis-cql card`.")
    found = read_small_file(file).decode(errors="replace").splitlines()
    if found == expected:
        return
    pairs = zip([*found, ""], [*expected, ""], strict=False)
    line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), min(len(found), len(expected)) + 1)
    raise PublishingError(
        f"{file}: line {line} is not what the settings and results beside it give. Numbers are never written by "
        "hand: run `sepsis-cql card`."
    )


def render_pages(records: Records, figures: list[str]) -> dict[str, bytes]:
    """Return README.md and docs/results.md by path.

    Args:
        records: of build, training, evaluation, study and audit.
        figures: names of the pictures in `model/figures`, without suffix.
    """
    facts = _collect(records, figures)
    return {name: _render(name, facts).encode() for name in TEMPLATES}


def load_facts(package: Path) -> dict[str, Any]:
    """Return everything the template may show of a package directory.

    Raises:
        PublishingError: a record is absent or not as we write it.
    """
    found = {path: package / path for path in RECORDS.values() if (package / path).is_file()}
    files = {path: read_small_file(file) for path, file in found.items()}
    try:
        records = read_records(files)
    except PublishingError as error:
        raise PublishingError(f"{package / README}: cannot be rendered: {error}.") from error
    return _collect(records, [file.stem for file in (package / "model" / "figures").glob("*.png")])


@cache  # compiled once for all pages of a process
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("sepsis_cql.publishing"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"estimate": say_estimate, "difference": say_difference, "bias": find_bias}
    environment.filters |= {
        "number": numbers.say_number,
        "truth": numbers.say_truth,
        "score": numbers.say_score,
        "size": numbers.say_size,
    }
    environment.filters |= {"published": say_published}
    return environment


def _render(name: str, facts: dict[str, Any]) -> str:
    body = _templates().get_template(TEMPLATES[name]).render(**facts)
    return f"---\n{_metadata(facts)}\n---\n\n{body}" if name == README else body


def _collect(records: Records, figures: list[str]) -> dict[str, Any]:
    settings, evaluation = load_shipped(CardSettings, "card.yaml"), records.evaluation
    calibration = measured_lines()
    _check_calibration(settings.calibration, calibration)
    step_hours = records.build.settings.step_hours
    return {
        "records": records,
        "card": settings,
        "source": settings.sources[records.build.source.name],
        "config": json.loads(describe_network(records)),
        "build": records.build.model_dump(mode="json"),
        "training": records.training.model_dump(mode="json"),
        "evaluation": evaluation,
        "calibration": calibration,
        "limits": say_limits(calibration),
        "estimators": {
            name: caption
            for name, caption in list_captions("card").items()
            if any(name in policy.estimates for policy in evaluation.policies)
        },
        "has_truth": any(policy.true_value for policy in evaluation.policies),
        "figures": {f"{name}.png": SHOWN[name] for name in sorted(figures) if name in SHOWN},
        "checkpoints": [f"{records.checkpoint}.pt"],
        "features": feature_rows(step_hours),
        "patient": [(k, None if v is None else f"{v:g}") for k, v in example_patient(step_hours).items()],
        "study": records.study,
        "choices": _choices(records.study),
        "n_screened": sum(1 in run.stages for run in records.study.runs) if records.study else 0,
        "metrics": numbers.metric_rows(evaluation),
        "audit": records.membership,
        "audit_errors": audit_errors(),
    }


def _choices(study: Study | None) -> dict[str, StudyRun]:
    """The run that each rule chose, and the published card's own settings."""
    captions = {
        "sound": "sound rule, published here",
        "published": "published rule",
        "reference": "published card",
    }
    indices = {} if study is None else dict(study.choices)
    return {
        captions[rule]: study.runs[index] for rule, index in indices.items() if study and index is not None
    }


def _check_calibration(listed: list[str], lines: list[CalibrationLine]) -> None:
    """Refuse a card without the tables that say how far to trust it, or with others than it lists."""
    found = {line.of.case for line in lines}
    if missing := sorted(set(listed) - found):
        raise PublishingError(
            f"{MEASURED}: known-truth tables {missing} not found, which configs/card.yaml lists. Run `sepsis-cql "
            "calibrate`, or install the package again."
        )
    if unlisted := sorted(found - set(listed)):
        raise PublishingError(
            f"{MEASURED}: found known-truth tables {unlisted}, which configs/card.yaml does not list. List them there: "
            "a card is then refused when they are lost."
        )


def _metadata(facts: dict[str, Any]) -> str:
    card, evaluation = facts["card"], facts["evaluation"]
    data = ModelCardData(
        language="en",
        license=card.license,
        library_name="transformers",
        pipeline_tag="reinforcement-learning",
        tags=card.tags,
        model_name=card.title,
        eval_results=numbers.eval_results(facts["source"].label, evaluation),
    )
    return str(data.to_yaml()).strip()
