"""A report by a guideline: each item answered from the evidence, with the place, or "not reported"."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, Field

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.strict import Record, Settings, load_shipped
from sepsis_cql.evaluation.record import PolicyRecord, find_judged
from sepsis_cql.evaluation.report.record import SubgroupDifferences
from sepsis_cql.publishing.card import load_facts
from sepsis_cql.publishing.evidence import RECORDS
from sepsis_cql.publishing.guard.build import PublishedBuild
from sepsis_cql.publishing.guard.evaluation import PublishedEvaluation
from sepsis_cql.replay.settings import ReplaySettings

NOT_REPORTED = "not reported"
CARD = "configs/card.yaml"
FORMATS = ("tripod-ai", "probast-ai", "target", "chai")
WHEN_NOT_TO_USE = (
    "Never for the care of a patient, at the bedside or from afar. Not to recommend, check or bill treatment. Not "
    "outside research on retrospective records, and not as evidence that a treatment works."
)
METRIC = "KeyMetrics/"  # of the CHAI card, whose metrics have parts of their own
MADE_BY = "<!-- written by sepsis-cql report -->\n"  # how every report ends, so that --force knows it again
SIGNIFICANT = 0.05  # adjusted p-value of a departure
SHOWN = 12  # entries of a list or a table, the rest is counted


class Item(Settings):
    """One item of a guideline.

    Attributes:
        number: as the guideline counts.
        asks: what it asks for, in our own words.
        places: paths into the evidence that answer it.
    """

    number: str
    asks: str
    places: list[str]


class Component(Settings):
    """One component of a target trial: what the trial would do, and the places that say what was done instead."""

    component: str
    specified: str
    places: list[str]


class Guideline(Settings):
    """The whole of a `configs/report_*.yaml`."""

    guideline: str
    reference: str
    note: str
    items: list[Item] = Field(min_length=1)
    emulation: list[Component] = Field(default_factory=list)
    namespace: str | None = None


class Answer(Record):
    """What the evidence answers to an item: a line for each place that says something."""

    number: str
    asks: str
    found: dict[str, str]

    @property
    def text(self) -> str:
        """The answer without its places."""
        return "; ".join(self.found.values()) or NOT_REPORTED


class GuidelineReport(Record):
    """A report: its answers, the emulated trial where the guideline has one, and the two fixed statements."""

    guideline: str
    reference: str
    note: str
    title: str
    when_not_to_use: str
    fairness: str
    n_answered: int
    answers: list[Answer]
    emulation: list[Answer]


def make_report(package: Path, name: str) -> GuidelineReport:
    """Answer the items of a guideline from the evidence of a package.

    Args:
        package: directory with `model/evidence`: an export, a card, a checkout.
        name: of `FORMATS`.

    Raises:
        PublishingError: there is no such format, or no evidence.
    """
    return answer_items(load_guideline(name), collect_evidence(load_facts(package)))


def load_guideline(name: str) -> Guideline:
    """Read the items of a guideline.

    Raises:
        PublishingError: there is none of that name.
    """
    if name not in FORMATS:
        raise PublishingError(f"--format: found {name!r}, expected one of {', '.join(FORMATS)}.")
    return load_shipped(Guideline, f"report_{name.replace('-', '_')}.yaml")


def collect_evidence(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a path can lead into: the records, the card's settings, and what follows from the records."""
    evaluation = facts["evaluation"]
    document, build = evaluation.model_dump(mode="json"), facts["build"]
    judged = find_judged(evaluation.policies, evaluation.frozen)
    records = {"study": facts["study"], "membership": facts["audit"]}
    return {
        "build": _with_absent(PublishedBuild, build)
        | {"settings": _with_absent(ReplaySettings, build["settings"])},
        "training": facts["training"],
        "evaluation": _with_absent(PublishedEvaluation, document),
        "judged": _with_absent(PolicyRecord, judged.model_dump(mode="json")) if judged else {},
        **{name: None if one is None else one.model_dump(mode="json") for name, one in records.items()},
        "card": facts["card"].model_dump(mode="json"),
        "source": facts["source"].model_dump(mode="json"),
        "fairness": conclude_fairness(
            evaluation.diagnostics and evaluation.diagnostics.differences, evaluation.verdict.label
        ),
        "when_not_to_use": WHEN_NOT_TO_USE,
    }


def _with_absent(model: type[BaseModel], document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with None for what the record is too old to have."""
    return {**dict.fromkeys(model.model_fields), **document}


def answer_items(guideline: Guideline, evidence: Mapping[str, Any]) -> GuidelineReport:
    """Answer every item of a guideline."""
    answers = [_answer(item.number, item.asks, item.places, evidence) for item in guideline.items]
    return GuidelineReport(
        guideline=guideline.guideline,
        reference=guideline.reference,
        note=guideline.note,
        title=evidence["card"]["title"],
        when_not_to_use=WHEN_NOT_TO_USE,
        fairness=evidence["fairness"],
        n_answered=sum(bool(answer.found) for answer in answers),
        answers=answers,
        emulation=[
            _answer(one.component, one.specified, one.places, evidence) for one in guideline.emulation
        ],
    )


def find_place(evidence: Mapping[str, Any], path: str) -> Any:
    """Return what a dotted path leads to.

    Raises:
        KeyError: a name on the way is not there.
    """
    found: Any = evidence
    for name in path.split("."):
        found = found[name]
    return found


def conclude_fairness(found: SubgroupDifferences | None, verdict: str) -> str:
    """Return whether the difference to clinicians departs in a subgroup from that of all other patients.

    Args:
        found: differences by subgroup, with p-values that are adjusted for their number; None in older records.
        verdict: on the policy as a whole.
    """
    if found is None:
        return f"{NOT_REPORTED.capitalize()}: the evaluation has no differences by subgroup."
    tested = [row for row in found.rows if row.p_adjusted is not None]
    if not tested:
        return (
            f"{NOT_REPORTED.capitalize()}: too few patients to say whether the difference to clinicians departs in "
            "any group."
        )
    apart = [
        f"{row.characteristic} {row.group} (adjusted p {row.p_adjusted:.2g})"
        for row in tested
        if row.p_adjusted is not None and row.p_adjusted < SIGNIFICANT
    ]
    first = (
        "The difference to clinicians departs from that of all other patients, after adjustment for "
        f"{len(tested)} groups, in {'; '.join(apart)}."
        if apart
        else f"No subgroup's difference to clinicians departs from that of all other patients, after adjustment for "
        f"{len(tested)} groups; with groups as small as these that is no proof of fairness."
    )
    return f"{first} The verdict on the policy as a whole is: {verdict}."


def render_report(report: GuidelineReport, suffix: str) -> str:
    """Render a report as Markdown (`.md`), a page (`.html`), or the card's own XML (`.xml`).

    Raises:
        PublishingError: there is no such form of it.
    """
    if suffix == ".xml":
        return _render_xml(report)
    if suffix not in (".md", ".html"):
        raise PublishingError(
            f"--out: found {suffix or 'no ending'!r}, expected .md, .html, or .xml for chai."
        )
    environment = Environment(
        loader=PackageLoader("sepsis_cql.publishing"),
        undefined=StrictUndefined,
        autoescape=suffix == ".html",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: text.replace("|", "\\|").replace("\n", " ")
    text = environment.get_template(f"guideline{suffix}.j2").render(report=report, NOT_REPORTED=NOT_REPORTED)
    return f"{text.rstrip()}\n{MADE_BY}"


def is_report(file: Path) -> bool:
    """Return whether a file is a report that `render_report` made, whatever was filled in since."""
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - len(MADE_BY)))
        return stream.read() == MADE_BY.encode()


def _answer(number: str, asks: str, places: Sequence[str], evidence: Mapping[str, Any]) -> Answer:
    found = {}
    for path in places:
        try:
            value = find_place(evidence, path)
        except (KeyError, TypeError):
            continue
        if text := _say(value):
            is_sentence = isinstance(value, Mapping) or (" " in text and isinstance(value, str))
            name = path.split(".")[-1].replace("_", " ")
            found[_name(path, evidence)] = text if is_sentence or "." not in path else f"{name} {text}"
    return Answer(number=number, asks=asks, found=found)


def _name(path: str, evidence: Mapping[str, Any]) -> str:
    """The file behind the first name of a path, and the way in it."""
    root, _, rest = path.partition(".")
    ways = {
        "judged": (RECORDS["evaluation"], "policies, the one the verdict is about"),
        "source": (CARD, f"sources.{evidence['build']['source']['name']}"),
        "card": (CARD, ""),
        "fairness": (RECORDS["evaluation"], "diagnostics.differences"),
        "when_not_to_use": ("fixed by this program", ""),
    }
    file, way = ways.get(root) or (RECORDS[root], "")
    return ": ".join([file, *filter(None, [".".join(filter(None, [way, rest]))])])


def _say(value: Any) -> str:
    """A value as text: "" for what is not there, parts of a table with their names."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        parts = [f"{name} {text}" for name, one in value.items() if (text := _say(one))]
        return _join(parts, ", ")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _join([text for one in value if (text := _say(one))], "; ")
    return str(value).strip()


def _join(parts: Sequence[str], mark: str) -> str:
    rest = len(parts) - SHOWN
    return mark.join([*parts[:SHOWN], *([f"and {rest} more"] if rest > 0 else [])])


def _render_xml(report: GuidelineReport) -> str:
    """The CHAI card: elements by their paths, in the order of the schema."""
    namespace = load_guideline("chai").namespace or ""
    if report.guideline != load_guideline("chai").guideline:
        raise PublishingError(f"--out: an .xml is for --format chai, found {report.guideline}.")
    root = ElementTree.Element("AppliedModelCard", {"xmlns": namespace})
    for answer in report.answers:
        parent = root
        *folders, last = answer.number.split("/")
        for name in folders:
            inner = parent.find(name)
            parent = ElementTree.SubElement(parent, name) if inner is None else inner
        element = ElementTree.SubElement(parent, last)
        if answer.number.startswith(METRIC):
            _add_metric(element, answer, report)
        else:
            element.text = answer.text
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n{MADE_BY}'


def _add_metric(element: ElementTree.Element, answer: Answer, report: GuidelineReport) -> None:
    ElementTree.SubElement(element, "MetricGoal").text = answer.asks
    results = ElementTree.SubElement(element, "Results")
    for place, text in (answer.found or {"result": NOT_REPORTED}).items():
        result = ElementTree.SubElement(results, "MetricResult")
        ElementTree.SubElement(result, "Label").text = place
        ElementTree.SubElement(result, "ValueJson").text = json.dumps(text, ensure_ascii=False)
    by_number = {one.number: one.text for one in report.answers}
    parts = {
        "Interpretation": by_number["ModelSummary/Summary"],
        "TestType": "retrospective, off-policy",
        "TestingDataDescription": by_number["TrustIngredients/AISystemFacts/InputDataSource"],
        "ValidationProcessAndJustification": NOT_REPORTED,
    }
    for name, text in parts.items():
        ElementTree.SubElement(element, name).text = text
