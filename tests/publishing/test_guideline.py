"""Reports by a guideline: every item is answered by a place that is there, or is not reported."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.evaluation.report.record import Interval, SubgroupDifference, SubgroupDifferences
from sepsis_cql.publishing.card import load_facts
from sepsis_cql.publishing.guideline import (
    FORMATS,
    NOT_REPORTED,
    WHEN_NOT_TO_USE,
    answer_items,
    collect_evidence,
    conclude_fairness,
    find_place,
    load_guideline,
    render_report,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def evidence():
    return collect_evidence(load_facts(ROOT))


@pytest.mark.parametrize("name", FORMATS)
def test_every_place_is_a_field_of_the_evidence(evidence, name):
    guideline = load_guideline(name)
    for row in [*guideline.items, *guideline.emulation]:
        for path in row.places:
            find_place(evidence, path)  # a KeyError names what is not there
    numbers = [item.number for item in guideline.items]
    assert len(set(numbers)) == len(numbers)


def test_what_the_records_lack_is_not_reported(evidence):
    answers = {one.number: one for one in answer_items(load_guideline("tripod-ai"), evidence).answers}
    assert (
        answers["5a"].found["configs/card.yaml: sources.synthetic.label"] == "synthetic ICU of this project"
    )
    sizes = ", ".join(f"{name} {patients}" for name, patients in evidence["build"]["splits"].items())
    shares = f"train 0.7, validation 0.15, test 0.15; {sizes}"
    assert answers["12a"].text.endswith(shares)
    assert answers["9b"].text == "lookback hours 24; step hours 4; availability storetime"
    assert answers["18a"].text == NOT_REPORTED and answers["18a"].found == {}
    without = answer_items(
        load_guideline("tripod-ai"), evidence | {"build": evidence["build"] | {"splits": {}}}
    )
    assert {one.number: one.text for one in without.answers}["12a"].endswith("test 0.15")
    nothing = answer_items(load_guideline("chai"), evidence | {"study": None, "judged": {}})
    assert {one.number: one for one in nothing.answers}["KeyMetrics/SafetyReliability"].found.keys() == {
        "model/evidence/evaluation.json: diagnostics.unsupported_share"
    }


def test_the_contrast_is_that_of_the_version_which_the_verdict_is_about(evidence):
    """Not of the greedy policy, whose interval rests on next to no episode."""
    (contrast,) = (
        row for row in answer_items(load_guideline("target"), evidence).emulation if "Contrast" in row.number
    )
    judged = evidence["judged"]
    assert judged["softening"] == evidence["evaluation"]["frozen"]
    assert f"{judged['difference_to_clinicians']['value']:.3f}"[:4] in contrast.text


TRIPOD = "1 2 3abc 4 5ab 6abc 7 8abc 9abc 10 11 12abcdefg 13 14 15 16 17 18abcdef 19 20abc 21 22 23ab 24 25 26 27abc"
PROBAST = [("D", (3, 4, 4, 5)), ("E", (3, 4, 4, 7))]


def test_the_numbers_are_those_of_the_published_guidelines():
    numbers = {name: [item.number for item in load_guideline(name).items] for name in FORMATS}
    letters = re.findall(r"(\d+)([a-g]*)", TRIPOD)
    assert numbers["tripod-ai"] == [
        number + letter for number, all_of in letters for letter in all_of or [""]
    ]
    assert len(numbers["tripod-ai"]) == 52
    assert [number for number in numbers["probast-ai"] if not number.startswith("+")] == [
        f"{part}{domain}.{question}"
        for part, counts in PROBAST
        for domain, count in enumerate(counts, 1)
        for question in range(1, count + 1)
    ]
    assert numbers["target"] == ["1a", "1b", "1c", "2", "3", "4", "5", "7h(ii)", *map(str, range(8, 22))]
    components = [one.component.split()[0] for one in load_guideline("target").emulation]
    assert components == [f"6{letter}," for letter in "abcdefgh"]


@pytest.mark.parametrize(
    ("adjusted", "sentence"),
    [
        ([0.6, None, 0.05], "No subgroup's difference to clinicians departs from that of all other patients, after "
        "adjustment for 2 groups; with groups as small as these that is no proof of fairness. The verdict on"),
        ([0.6, 0.03, 0.001], "The difference to clinicians departs from that of all other patients, after adjustment "
        "for 3 groups, in sex 1 (adjusted p 0.03); sex 2 (adjusted p 0.001)."),
        ([None], "Not reported: too few patients to say"),
        (None, "Not reported: the evaluation has no differences by subgroup."),
    ],
)  # fmt: skip
def test_fairness_is_concluded_from_adjusted_departures(adjusted, sentence):
    nothing = Interval(value=None, lower=None, upper=None)
    values = {
        "characteristic": "sex",
        "n_episodes": 20,
        "ess": 20.0,
        "difference": nothing,
        "independent": nothing,
    }
    rows = [
        SubgroupDifference(group=str(number), p_adjusted=p, **values)
        for number, p in enumerate(adjusted or [])
    ]
    found = SubgroupDifferences(policy="x", recommended="fqe", independent="wdr", rows=rows)
    assert conclude_fairness(found if adjusted else None, "x").startswith(sentence)


def test_a_report_is_printed_or_written_with_its_warning(tmp_path):
    def call(*options):
        return CliRunner().invoke(app, ["report", str(ROOT), *map(str, options)])

    page = tmp_path / "target.html"
    assert call("--format", "target", "--out", page).exit_code == 0
    text = page.read_text()
    assert (
        WHEN_NOT_TO_USE in text
        and "specified and emulated" in text
        and "http" not in text.replace("https", "")
    )
    assert isinstance(call("--format", "target", "--out", page).exception, PublishingError)
    page.write_text(text.replace("not reported", "filled in", 1))
    assert call("--format", "target", "--out", page, "--force").exit_code == 0
    assert page.read_text() == text
    (thesis := tmp_path / "thesis.html").write_text("<p>years of work")
    (link := tmp_path / "link.html").symlink_to(page)
    for foreign in (thesis, link, tmp_path):
        refusal = call("--format", "target", "--out", foreign, "--force").exception
        assert "something else than a report" in str(refusal)
    assert thesis.read_text() == "<p>years of work" and link.is_symlink()
    facts = json.loads(call("--format", "probast-ai", "--json").stdout)
    assert facts["guideline"] == "PROBAST+AI" and facts["when_not_to_use"] == WHEN_NOT_TO_USE
    assert "| E4.7 | " in call("--format", "probast-ai").stdout
    assert "expected one of tripod-ai" in str(call("--format", "strobe").exception)
    assert "for --format chai" in str(call("--format", "target", "--out", tmp_path / "x.xml").exception)


def test_the_card_of_chai_has_every_element_once_in_its_namespace(evidence):
    guideline = load_guideline("chai")
    root = ElementTree.fromstring(render_report(answer_items(guideline, evidence), ".xml"))
    space = {"c": guideline.namespace}
    assert [part.tag.split("}")[1] for part in root] == [
        *("BasicInfo", "ReleaseInfo", "ModelSummary", "UsesAndDirections", "Warnings", "TrustIngredients"),
        *("KeyMetrics", "Resources", "Bibliography"),
    ]
    for item in guideline.items:
        (element,) = root.findall("/".join(f"c:{name}" for name in item.number.split("/")), space)
        if item.number.startswith("KeyMetrics"):
            assert json.loads(element.find("c:Results/c:MetricResult/c:ValueJson", space).text)
        else:
            assert element.text
