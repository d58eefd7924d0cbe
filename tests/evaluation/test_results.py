"""One rule of what is a result, wherever an estimate is shown."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

from sepsis_cql.evaluation.record import Difference, Estimate
from sepsis_cql.evaluation.report.results import (
    find_bias,
    find_difference,
    make_result,
    say_estimate,
    say_published,
)
from sepsis_cql.publishing.card import load_facts
from sepsis_cql.publishing.numbers import eval_results, metric_rows

ROOT = Path(__file__).parents[2]
BOUND = 15.0


@pytest.fixture(scope="module")
def evaluation():
    return load_facts(ROOT)["evaluation"]


def changed(policy, value, lower, upper, *, name="fqe_cross_fitted", ess=200.0):
    """The policy with this estimate and the same as its difference."""
    estimate = Estimate(value=value, lower=lower, upper=upper, method="made up")
    return policy.model_copy(
        update={
            "estimates": {name: estimate},
            "weights": policy.weights.model_copy(update={"ess": ess}),
            "difference_to_clinicians": Difference(estimator=name, value=value, lower=lower, upper=upper),
        }
    )


@pytest.mark.parametrize(
    ("value", "ess", "text"),
    [
        (7.6, 200.0, "7.60 [-15.00, 15.00]"),
        (104.2, 200.0, "failed"),
        (-14.41, 1.0, "failed"),
        (None, 200.0, "not shown"),
    ],
)
def test_an_estimate_is_said_as_what_it_is(evaluation, value, ess, text):
    policy = changed(evaluation.policies[0], value, -2739.2, 2947.6, name="wis", ess=ess)
    assert say_estimate(policy, "wis", BOUND) == text
    assert say_estimate(policy, "fqe", BOUND) == ""


def test_an_estimate_that_rests_on_no_weights_needs_none(evaluation):
    assert (
        say_estimate(changed(evaluation.policies[0], 7.6, None, None, ess=1.0), "fqe_cross_fitted", BOUND)
        == "7.60"
    )


def test_a_difference_fails_with_the_value_that_it_rests_on(evaluation):
    """16 - 6 would be a difference that two attainable values can have."""
    assert find_difference(changed(evaluation.policies[0], 16.0, 15.0, 17.0), BOUND) is None
    assert find_difference(changed(evaluation.policies[0], 10.0, 9.0, 40.0), BOUND).upper == 2 * BOUND


@pytest.mark.parametrize(("bias", "shown"), [(0.5, 0.5), (-150.0, None), (8.0, None), (None, None)])
def test_a_bias_beyond_what_can_be_attained_fails(bias, shown):
    policy, quality = SimpleNamespace(true_value=7.8), SimpleNamespace(bias=bias)
    assert find_bias(SimpleNamespace(policy=policy, quality=quality), BOUND) == shown


def test_metadata_lead_with_the_recommended_estimate_and_the_truth_and_hold_no_failure(evaluation):
    first, *others = evaluation.policies
    beyond = {name: estimate.model_copy(update={"value": 40.0}) for name, estimate in first.estimates.items()}
    claims = first.model_copy(
        update={"estimates": beyond | {"fqe_cross_fitted": first.estimates["fqe_cross_fitted"]}}
    )
    shouting = evaluation.model_copy(update={"policies": [claims, *others]})
    for results in (
        ModelCard.load(ROOT / "README.md").data.eval_results,
        eval_results("x", evaluation),
        eval_results("x", shouting),
    ):
        assert [one.metric_type for one in results[:2]] == ["fqe_cross_fitted", "true_value"]
        for one in results:
            assert one.metric_type.startswith("ess") or abs(one.metric_value) <= BOUND, one
            ends = [(one.metric_args or {}).get(end) for end in ("lower", "upper")]
            assert all(end is None or abs(end) <= BOUND for end in ends)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.6, "7.60"),
        (15.0, "15.00"),
        (33.61, "33.61 (unattainable)"),
        (-1500.0, "-1,500.00 (unattainable)"),
        (None, "not shown"),
    ],
)
def test_a_published_number_beyond_any_return_is_marked(evaluation, value, text):
    assert say_published(value, BOUND) == text
    claimed = evaluation.published.model_copy(update={"fqe_mean": value})
    assert metric_rows(evaluation.model_copy(update={"published": claimed}))[0][1] == text


def test_a_value_at_the_bound_is_attainable():
    assert str(make_result(15.0, None, None, BOUND)) == "15.00"


def test_the_card_shows_the_version_that_the_verdict_is_about_beside_the_policy_as_it_acts(evaluation):
    def rows_of(frozen):
        rows = metric_rows(evaluation.model_copy(update={"frozen": frozen}))
        return {name: (sound, true) for name, _, sound, true in rows if "version" in name}

    judged = next(one for one in evaluation.policies if one.role == "softened")
    found = rows_of(judged.softening)
    value = judged.estimates["fqe_cross_fitted"].value
    assert found["FQE, version of the verdict"][0].startswith(f"{value:.2f} [")
    assert len(found) == 3 and rows_of(None) == {}
