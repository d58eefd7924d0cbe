"""The rules of the verdict on made-up estimates."""

from types import SimpleNamespace

import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.record import Difference, Estimate, Gate
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import judge


@pytest.fixture(scope="module")
def settings():
    return load_shipped(EvaluationSettings, "evaluation.yaml")


def policy_estimate(name, value, difference=1.0):
    estimate = Estimate(value=value, lower=None, upper=None, method="made up")
    found = Difference(
        estimator="fqe_cross_fitted", value=difference, lower=difference / 2, upper=2 * difference
    )
    return SimpleNamespace(
        evaluated=SimpleNamespace(name=name), estimates={"fqe_cross_fitted": estimate}, difference=found
    )


@pytest.mark.parametrize(
    ("own", "baseline", "label"),
    [
        (0.0, -1.0, "better than clinicians"),
        (-1.0, 0.0, "not better than clinicians"),
        (0.0, 0.0, "not better than clinicians"),
        (0.0, None, "better than clinicians"),
        (1.0, 2.0, "not better than clinicians"),
    ],
)
def test_a_baseline_of_at_least_the_same_value_denies_the_policy_its_praise(settings, own, baseline, label):
    verdict = judge(policy_estimate("policy", own), [], [policy_estimate("baseline", baseline)], settings)
    assert verdict.label == label


def test_a_gate_that_fails_is_named_with_what_was_expected(settings):
    gate = Gate(name="effective sample size", value=1.0, threshold="at least 150 episodes", passed=False)
    verdict = judge(policy_estimate("policy", 5.0), [gate], [], settings)
    assert verdict.label == "cannot be identified"
    assert verdict.reasons == ["effective sample size: 1, expected at least 150 episodes"]
