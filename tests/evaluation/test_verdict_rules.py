"""The rules of the verdict on made-up estimates."""

from types import SimpleNamespace

import numpy as np
import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.estimate import lacking_share, unseen_share, value_missing_at_worst
from sepsis_cql.evaluation.estimators.another_death import bound_with_another_death, weigh_little_seen
from sepsis_cql.evaluation.looks import check_looks
from sepsis_cql.evaluation.policies.behavior import Covariate
from sepsis_cql.evaluation.record import Difference, Estimate, Gate
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import SELECTED_HERE, check_hidden, judge


@pytest.fixture(scope="module")
def settings():
    return load_shipped(EvaluationSettings, "evaluation.yaml")


def policy_estimate(name, value, difference=1.0):
    estimate = Estimate(value=value, lower=None, upper=None, method="made up")
    found = Difference(
        estimator="fqe_cross_fitted", value=difference, lower=difference / 2, upper=2 * difference
    )
    return SimpleNamespace(
        evaluated=SimpleNamespace(name=name),
        estimates={"fqe_cross_fitted": estimate},
        difference=found,
        break_even_gamma=1.2,
        break_even_gamma_by_decision=1.04,
        certain_gamma=1.02,
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


@pytest.mark.parametrize(
    ("difference", "label"), [(1.0, "cannot be identified"), (-1.0, "not better than clinicians")]
)
def test_what_only_praise_needs_denies_praise_alone(settings, difference, label):
    gate = Gate(
        name="lower end",
        value=-0.1,
        threshold="above 0",
        passed=False,
        is_for_endorsement=True,
        meaning="It may harm",
    )
    verdict = judge(policy_estimate("policy", 5.0, difference), [gate], [], settings)
    assert verdict.label == label
    assert ("It may harm (lower end: -0.1, expected above 0)" in verdict.reasons) == (difference > 0)


def test_episodes_that_selected_a_policy_do_not_endorse_it(settings):
    verdict = judge(policy_estimate("policy", 5.0), [], [], settings, barred=SELECTED_HERE)
    assert verdict.label == "cannot be identified"
    assert verdict.reasons[0] == "validation selected this policy; only the test split can endorse it"


@pytest.mark.parametrize(("value", "expected"), [(2.0, True), (1.4, False)])
def test_the_fifth_policy_on_a_test_split_needs_more_than_the_first(value, expected):
    """One-sided 0.05 / 30 is 2.94 standard errors; each is 0.5, and 1.4 are 2.8 of them."""
    one = Difference(estimator="wdr", value=value, lower=value - 1.96 * 0.5, upper=value + 1.96 * 0.5)
    better = Difference(estimator="fqe_cross_fitted", value=3.0, lower=2.0, upper=4.0)
    found = SimpleNamespace(differences={"fqe_cross_fitted": better, "wdr": one})
    assert check_looks(found, 1) == []
    (gate,) = check_looks(found, 5)
    assert gate.passed is expected and gate.is_for_endorsement
    assert gate.value == pytest.approx(value - 2.9352 * 0.5, abs=1e-3)


def test_another_death_costs_most_where_few_patients_carry_the_advantage():
    differences, even = np.full(1000, 0.3), np.ones(1000)
    heavy = np.r_[np.full(50, 5.0), np.full(950, 0.79)]

    def lower(weights):
        return bound_with_another_death(differences, weights, 14.0, 15.0, 0)

    assert lower(even) == pytest.approx(0.3)
    assert lower(heavy) < 0.05 < lower(np.tile(heavy, 10)) < 0.3
    assert np.isnan(bound_with_another_death(np.full(9, np.nan), even, 14.0, 15.0, 0))


@pytest.mark.parametrize(("n_given", "weight"), [(0, 8.0), (1, 4.0), (3, 2.0)])
def test_who_gets_a_dose_that_is_hardly_seen_has_the_weight_of_all_that_the_policy_gives(n_given, weight):
    """Of 400 patients ten could get it, one in twenty of whom does; the policy gives it to eight of the ten."""
    behavior, policy = np.tile([1.0, 0.0], (400, 1)), np.tile([1.0, 0.0], (400, 1))
    behavior[:10], policy[:10] = [0.95, 0.05], [0.2, 0.8]
    actions = (np.arange(400) < n_given).astype(int)
    assert weigh_little_seen(policy, behavior, actions) == pytest.approx(weight)
    assert weigh_little_seen(behavior, behavior, actions) == 0
    plain, added = (
        bound_with_another_death(np.full(1000, 0.3), np.ones(400), 14.0, 15.0, 0, little_seen=more)
        for more in (0.0, weight)
    )
    assert added < 0.1 < plain


@pytest.mark.parametrize(
    ("said", "n_given", "share"), [(2, 0, 0.02), (2, 1, 0.0), (2, 2, 0.0), (4, 1, 0.015), (4, 2, 0.0)]
)
def test_rare_doses_that_were_never_seen_are_missed_and_those_seen_by_chance_are_not(said, n_given, share):
    """Of 400 patients so many are said to get the dose, which the policy gives to eight; four and one is no chance."""
    n, wanted = 400, 0.02
    data = SimpleNamespace(
        behavior=np.tile([1 - said / n, said / n], (n, 1)),
        scored=SimpleNamespace(actions=(np.arange(n) < n_given).astype(int)),
        episodes=SimpleNamespace(pad=lambda values: values[:, None]),
    )
    found = lacking_share(np.tile([1 - wanted, wanted], (n, 1)), data, 0.02)
    assert found == pytest.approx(share)


LACTATE, GLUCOSE = (
    Covariate(name=name, odds=odds, weights=2.0) for name, odds in (("lactate", 1.015), ("glucose", 1.01))
)


def test_an_endorsement_names_the_hidden_confounding_it_survives(settings):
    found = policy_estimate("policy", 5.0)
    rules = settings.gates.model_copy(update={"least_gamma": 1.0})
    gates = check_hidden(found, settings.model_copy(update={"gates": rules}), [LACTATE, GLUCOSE])
    alone, beside = (judge(found, checked, [], settings).reasons[-1] for checked in ([], gates))
    assert alone.endswith(
        "over a stay by more than a factor of 1.20, or at every decision by more than a factor of 1.04 "
        "(1.02 with 95% confidence)"
    )
    assert beside == f"{alone} (leaving out lactate, which is measured, changes them by 1.01)"


@pytest.mark.parametrize(("survived", "passes"), [(1.9, False), (2.1, True), (None, True)])
def test_what_measured_covariates_hardly_change_a_hidden_factor_may_all_the_same(settings, survived, passes):
    """As where two columns hold the same, so that leaving out one of them changes nothing."""
    found = policy_estimate("policy", 5.0)
    found.certain_gamma = survived
    of_measured, at_least = check_hidden(found, settings, [LACTATE])
    assert of_measured.passed
    assert (at_least.passed, at_least.threshold) == (passes, "at least 2")
    label = judge(found, [of_measured, at_least], [], settings).label
    assert label == ("better than clinicians" if passes else "cannot be identified")


def test_what_a_factor_as_strong_as_a_measured_one_would_undo_is_not_identified(settings):
    found, strong = policy_estimate("policy", 5.0), LACTATE.model_copy(update={"odds": 1.3})
    verdict = judge(found, check_hidden(found, settings, [strong, GLUCOSE]), [], settings)
    assert verdict.label == "cannot be identified"
    assert verdict.reasons[0].startswith("an unmeasured factor no stronger than lactate would undo it")
    gates = settings.gates.model_copy(update={"withstands_covariate": False})
    assert check_hidden(found, settings.model_copy(update={"gates": gates}), [strong]) == []
    assert check_hidden(found, settings, []) == []


@pytest.mark.parametrize(
    ("weights", "value"),
    [
        (np.full(100, 1.1), 8.0),  # nothing is missing
        (np.full(100, 0.9), 0.9 * 8.0 - 0.1 * 15.0),  # a tenth, for certain
        (np.tile([0.0, 1.9], 50), 8.0),  # mean 0.95 with a standard error of 0.095: chance
        (np.tile([0.7, 0.9], 5000), 0.801 * 8.0 - 0.199 * 15.0),  # a standard error of 0.001
    ],
)
def test_only_what_weights_lack_beyond_chance_is_valued_at_worst(weights, value):
    assert value_missing_at_worst(8.0, weights, 15.0, 1.0) == pytest.approx(value, abs=1e-4)


def test_what_no_weight_can_show_is_valued_at_worst_whatever_their_mean():
    weights = np.full(100, 1.1)
    assert value_missing_at_worst(8.0, weights, 15.0, 1.0, unseen=0.25) == 0.75 * 8.0 - 0.25 * 15.0
    stays = SimpleNamespace(pad=lambda values: np.array([[values[0], values[1]], [values[2], 0.0]]))
    data = SimpleNamespace(behavior=np.array([[1.0, 0.0], [0.9, 0.1], [0.999, 0.001]]), episodes=stays)
    policy = np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    assert unseen_share(policy, data, 1e-5) == pytest.approx(0.1 / 2)
    assert unseen_share(policy, data, 0.01) == pytest.approx((0.1 + 1) / 2)
