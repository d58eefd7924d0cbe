"""Published tables whose flaws are known, and one that has none."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.evaluation.claims import find_flaws, load_claims

TABLES = Path(__file__).with_name("claims")


def flaws(name):
    return find_flaws(load_claims(TABLES / f"{name}.yaml"), 150.0)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (
            "published_card",
            {"unattainable", "few episodes", "initial states", "no clinicians", "no baseline", "families differ"},
        ),
        (
            "sibling_iql",
            {
                "few episodes", "no interval", "few resamples", "families differ", "worse than clinicians",
                "worse than a baseline",
            },
        ),
        (
            "sepsis_agent",
            {"clinicians differ", "unstated size", "no interval", "worse than a baseline", "unstated range"},
        ),
        ("factored_actions", {"unstated size"}),
        (
            "oberst_sontag",
            {
                "unstated size", "no interval", "no baseline", "families differ", "misses the truth",
                "truly worse than clinicians",
            },
        ),
        ("sound", set()),
    ],
)  # fmt: skip
def test_each_flaw_of_a_published_table_is_named_and_no_other(name, kinds):
    assert {flaw.kind for flaw in flaws(name)} == kinds


def test_flaws_give_the_numbers():
    sentences = " ".join(flaw.sentence for name in ("published_card", "sepsis_agent") for flaw in flaws(name))
    assert "15.6899, 15.6166, 15.7556 lies outside the attainable returns of -15 to 15" in sentences
    assert "10.4089 effective episodes of 2,585" in sentences
    truth = [flaw.sentence for flaw in flaws("oberst_sontag") if flaw.kind.startswith("truly")]
    assert (
        truth[0] == "0.6286 is claimed where the clinicians have 0.324; the truth is -0.4907"
        and len(truth) == 3
    )
    assert "wis 5.27, wpdis 10.82" in sentences  # the clinicians' DR may differ, by its model


@pytest.mark.parametrize(
    ("true_value", "kinds"),
    [
        (0.5, set()),  # inside, and better than the clinicians
        (0.35, {"misses the truth"}),  # better still
        (0.3, {"misses the truth", "truly worse than clinicians"}),
        (0.95, {"misses the truth"}),
    ],
)
def test_a_truth_that_bears_the_claim_out_is_no_flaw(true_value, kinds):
    clinicians, learned = load_claims(TABLES / "oberst_sontag.yaml").rows[:2]
    told = learned.model_copy(update={"interval": (0.4, 0.9), "true_value": true_value, "ess": 900.0})
    table = load_claims(TABLES / "sound.yaml").model_copy(update={"rows": [clinicians, told]})
    assert {flaw.kind for flaw in find_flaws(table, 150.0)} - {"no baseline"} == kinds


def test_the_command_exits_with_1_where_there_is_a_flaw_and_0_where_there_is_none():
    runner = CliRunner()
    assert runner.invoke(app, ["audit-claims", str(TABLES / "sound.yaml")]).exit_code == 0
    result = runner.invoke(app, ["audit-claims", str(TABLES / "published_card.yaml")])
    assert result.exit_code == 1
    assert "few episodes" in result.output


def test_an_estimator_is_the_same_in_capitals(tmp_path):
    rows = [
        "{policy: a, role: learned, estimator: WIS, value: 1, ess: 900}",
        "{policy: b, role: clinicians, estimator: wis, value: 2}",
    ]
    (tmp_path / "table.yaml").write_text(f"source: x\nrows: [{', '.join(rows)}]\n")
    kinds = {flaw.kind for flaw in find_flaws(load_claims(tmp_path / "table.yaml"), 150.0)}
    assert "worse than clinicians" in kinds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("source: x\n", "found no `rows`"),
        ("source: x\nrows: [{policy: a, role: hero, estimator: wis, value: 1}]\n", "role"),
        (
            "source: x\nattainable: [1, 0]\nrows: [{policy: a, role: learned, estimator: wis, value: 1}]\n",
            "lower end",
        ),
        ("source: x\nrows: [{policy: a, role: learned, estimator: wis, value: .nan}]\n", "finite"),
    ],
)
def test_what_is_no_table_is_refused_with_its_field(tmp_path, text, found):
    file = tmp_path / "table.yaml"
    file.write_text(text)
    with pytest.raises(SepsisCQLError, match=found):
        load_claims(file)
