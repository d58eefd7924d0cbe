"""Reports by a guideline: every item is answered by a place that is there, or is not reported."""

import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import PublishingError
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
    shares = "train 0.7, validation 0.15, test 0.15; train 1870, validation 400, test 380"
    assert answers["12a"].text.endswith(shares)
    assert answers["9a-b"].text == "lookback hours 24; step hours 4"
    assert answers["18a"].text == NOT_REPORTED and answers["18a"].found == {}
    without = answer_items(
        load_guideline("tripod-ai"), evidence | {"build": evidence["build"] | {"splits": {}}}
    )
    assert {one.number: one.text for one in without.answers}["20c"] == NOT_REPORTED
    nothing = answer_items(load_guideline("chai"), evidence | {"study": None, "learned": {}})
    assert {one.number: one for one in nothing.answers}["KeyMetrics/SafetyReliability"].found.keys() == {
        "model/evidence/evaluation.json: diagnostics.unsupported_share"
    }


def group(characteristic, name, policy, clinicians):
    interval = lambda ends: SimpleNamespace(lower=ends[0], upper=ends[1])  # noqa: E731
    return SimpleNamespace(
        characteristic=characteristic,
        group=name,
        policy_fqe=interval(policy),
        clinicians=interval(clinicians),
    )


def test_fairness_is_concluded_from_differences_between_groups_of_one_kind():
    alike = [group("age", "young", (5, 9), (4, 8)), group("age", "old", (1, 5), (0, 4))]
    assert conclude_fairness(alike, "x").startswith(
        "No difference in gain over clinicians is shown between 2"
    )
    apart = [group("sex", "F", (9, 10), (0, 1)), group("sex", "M", (1, 2), (9, 10)), *alike]
    assert conclude_fairness(apart, "x").startswith("The gain over clinicians differs between sex F and M.")
    unknown = [group("age", "young", (None, None), (4, 8))]
    assert conclude_fairness(unknown, "x").startswith("Not reported")


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
    assert "| E1.2 | " in call("--format", "probast-ai").stdout
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
