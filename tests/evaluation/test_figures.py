"""Figures and page: true to the record, in order, marked as simulated, and without what is no result."""

import re
from html import unescape
from pathlib import Path

import pytest

from sepsis_cql.evaluation.report.figures import draw_figures, make_figures
from sepsis_cql.evaluation.report.page import render_page
from sepsis_cql.evaluation.report.record import rank_group
from sepsis_cql.evaluation.report.style import name_doses, name_group, share_interval, show_share
from sepsis_cql.evaluation.verdict import SIZE
from sepsis_cql.publishing.card import load_facts
from sepsis_cql.replay.records import DoseGrid

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def evaluation():
    grid = DoseGrid(vasopressor_edges=[0.04, 0.07, 0.14], fluid_edges=[250.0, 450.0, 850.0])
    return load_facts(ROOT)["records"].drawn.model_copy(update={"action_grid": grid})


@pytest.fixture(scope="module")
def figures(evaluation):
    return dict(make_figures(evaluation))


def draw(evaluation, name):
    """One figure; none that comes after it is made."""
    return next(figure for found, figure in make_figures(evaluation) if found == name)


def test_every_figure_says_what_to_conclude_and_that_patients_are_simulated(figures):
    assert len(figures) == 10
    for name, figure in figures.items():
        assert len(figure.get_suptitle()) > 20, name
        assert figure.get_supxlabel().startswith("SIMULATED PATIENTS"), name


def test_the_title_says_which_version_the_verdict_is_about(evaluation, figures):
    assert evaluation.frozen in figures["estimates"].get_suptitle().replace("\n", " ")
    unfrozen = draw(evaluation.model_copy(update={"frozen": None}), "estimates")
    assert "the policy as it acts" in unfrozen.get_suptitle().replace("\n", " ")


def test_other_data_are_not_called_simulated(evaluation):
    source = evaluation.replay.source.model_copy(update={"name": "mimic-iv-demo"})
    demo = evaluation.model_copy(update={"replay": evaluation.replay.model_copy(update={"source": source})})
    assert all(figure.get_supxlabel().startswith("MIMIC-IV demo") for _, figure in make_figures(demo))


def test_text_has_one_size(figures):
    sizes = {
        text.get_fontsize()
        for figure in figures.values()
        for text in figure.findobj(match=lambda artist: hasattr(artist, "get_fontsize"))
        if text.get_text()
    }
    assert sizes == {9.0}


@pytest.mark.parametrize(
    ("hours", "days", "fluid", "mortality", "worst"),
    [
        (4, 90, "mL in 4 h", "90-day mortality", "all die within 90 days"),
        (2, 28, "mL in 2 h", "28-day mortality", "all die within 28 days"),
        (None, None, "mL a step", "mortality", "all die"),
    ],
)
def test_axes_tell_doses_and_times_of_the_settings(evaluation, hours, days, fluid, mortality, worst):
    found = evaluation.model_copy(update={"step_hours": hours, "mortality_days": days})
    drawn = dict(make_figures(found))
    texts = drawn["action_grids"].findobj(match=lambda artist: hasattr(artist, "get_text"))
    assert {"0.04-0.07", "over 850", f"intravenous fluid, {fluid}"} <= {text.get_text() for text in texts}
    assert drawn["mortality_by_dose_difference"].axes[0].get_ylabel() == mortality
    assert f"15: {worst}, +15: none" in drawn["estimates"].axes[0].get_xlabel()
    page = render_page(found, {})
    assert ("death)" in page) == (days is None) and (f"alive at day {days}" in page) == (days is not None)


def test_fitted_values_of_groups_claim_no_more_than_the_verdict(evaluation, figures):
    assert f"acts: {evaluation.policies[0].verdict.label}, and no more of any group" in " ".join(
        figures["subgroups"].get_suptitle().split()
    )


def test_severity_rises_from_left_to_right(figures):
    labels = [label.get_text() for label in figures["agreement_by_sofa"].axes[0].get_xticklabels()]
    assert labels == ["0 to 5", "6 to 9", "10 to 14", "15 or more"]


def test_a_failed_estimate_is_written_and_truth_is_drawn(evaluation):
    policies = list(evaluation.policies)
    for index in (1, 3):
        found = policies[index].estimates
        failed = found["fqe_cross_fitted"].model_copy(update={"value": 40.0})
        policies[index] = policies[index].model_copy(
            update={"estimates": found | {"fqe_cross_fitted": failed}}
        )
    evaluation = evaluation.model_copy(update={"policies": policies})
    axes = draw(evaluation, "estimates").axes[0]
    failed = [text for text in axes.texts if text.get_text().strip() == "failed"]
    assert len(failed) == 2
    diamonds = [line for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata())]
    expected = [one.true_value.value for one in evaluation.policies if one.role != "clinicians"]
    assert [line.get_xdata()[0] for line in diamonds] == expected
    assert max(abs(x) for line in axes.lines if line.get_linestyle() == "-" for x in line.get_xdata()) <= 15


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0%"), (0.002, "<1%"), (379 / 380, ">99%"), (1.0, "100%"), (0.414, "41%")]
)
def test_only_none_and_all_are_0_and_100_percent(share, text):
    assert show_share(share) == text


def test_groups_are_named_and_ordered_by_their_numbers():
    groups = ["[10.0, 15.0)", "[15.0, inf)", "[0.0, 6.0)", "[6.0, 10.0)"]
    named = [name_group(group) for group in sorted(groups, key=rank_group)]
    assert named == ["0 to 5", "6 to 9", "10 to 14", "15 or more"]
    assert name_group("BLACK/AFRICAN AMERICAN") == "Black/African American" and name_group("F") == "F"
    assert name_group("Medical/Surgical Intensive Care Unit (MICU/SICU)") == "MICU/SICU"
    assert name_doses(None)[1] == "quarter 1"


def test_the_interval_of_a_share_is_wilsons():
    """Wilson 1927, 8 of 10: 0.490 to 0.943."""
    low, high = share_interval([0.8], [10])[:, 0]
    assert (0.8 - low, 0.8 + high) == pytest.approx((0.490, 0.943), abs=5e-4)


def test_the_page_has_the_verdict_first_and_needs_nothing_else(evaluation, tmp_path, rendering):
    with rendering():
        page = render_page(evaluation, draw_figures(evaluation, tmp_path))
    body = page[page.index("<body>") :]
    assert body.index(evaluation.verdict.label.capitalize()) < body.index("<table") < body.index("<figure")
    assert body.index("Simulated patients") < body.index("<h1>")
    assert not re.search(r"https?://|<script|<link|src=\"(?!data:)", page)
    assert page.count('<img alt="') == 10 and 'alt=""' not in page and len(page) > 100_000
    assert "prefers-color-scheme:dark" in page and "-111.59" not in page


def test_the_page_lists_the_gates_of_the_version_that_the_verdict_is_about(evaluation):
    own = [index for index, one in enumerate(evaluation.policies) if one.role in ("learned", "softened")]
    assert own[0] == 0 and len(own) > 1
    policies = list(evaluation.policies)
    flipped = [gate.model_copy(update={"passed": not gate.passed}) for gate in policies[0].gates]
    flipped = [
        gate.model_copy(update={"threshold": "at least 40 episodes"}) if gate.name == SIZE else gate
        for gate in flipped
    ]
    policies[0] = policies[0].model_copy(update={"gates": flipped})
    for index in own[:2]:
        frozen = policies[index].softening
        page = unescape(
            render_page(evaluation.model_copy(update={"policies": policies, "frozen": frozen}), {})
        )
        assert "Verdicts need at least 40 episodes." in page
        (part,) = re.findall(r"<summary>Gates of .*?</table>", page, re.DOTALL)
        rows = re.findall(r"<tr><td>(.*?)</td>.*?<td>(holds|fails)</td></tr>", part, re.DOTALL)
        gates = policies[index].gates
        assert [name.removesuffix(" (for an endorsement)") for name, _ in rows] == [one.name for one in gates]
        assert [word == "holds" for _, word in rows] == [one.passed for one in gates]
        held = sum(one.passed for one in gates)
        assert re.search(rf": {held} of\s+{len(gates)} hold</summary>", part)
