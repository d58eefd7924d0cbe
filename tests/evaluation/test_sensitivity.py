"""Bounds under hidden confounding, against every corner of what the weights may be."""

from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq, linprog

from sepsis_cql.evaluation.estimators.sensitivity import (
    break_even,
    break_even_by_decision,
    lowest_parts,
)

CASES = [
    (np.array([15.0, -15.0, 3.0, 3.0]), np.array([1.0, 0.5, 2.0, 0.0])),
    (np.random.default_rng(0).normal(size=7), np.random.default_rng(1).exponential(size=7)),
    (np.random.default_rng(2).choice([-15.0, 15.0], 6), np.random.default_rng(3).exponential(size=6)),
]


@pytest.mark.parametrize(("returns", "weights"), CASES)
def test_at_the_break_even_the_worst_corner_is_the_target(returns, weights):
    target = weights @ returns / weights.sum() - 0.2
    gamma = break_even(returns, weights, target)
    corners = np.array(list(product((1 / gamma, gamma), repeat=len(returns)))) * weights
    assert gamma > 1
    assert (corners @ returns / corners.sum(axis=1)).min() == pytest.approx(target)


def test_what_is_not_above_the_target_breaks_at_once_and_what_cannot_fall_below_it_never():
    returns, weights = np.array([1.0, 3.0]), np.ones(2)
    assert break_even(returns, weights, 2.0) == 1.0
    assert break_even(returns, weights, 2.5) == 1.0
    assert break_even(returns, weights, 1.0) is None
    assert break_even(returns, weights, 1.5) == pytest.approx(np.sqrt(3))


def test_without_weight_nothing_was_above_the_target():
    assert break_even(np.ones(3), np.zeros(3), 0.0) == 1.0


def with_odds(returns, weights, rng):
    given = rng.uniform(0.2, 0.9, (len(returns), 2))
    return returns, weights, given, returns + rng.normal(0, returns.std(), len(returns))


ODDS = [with_odds(*case, np.random.default_rng(4 + number)) for number, case in enumerate(CASES)]


@pytest.mark.parametrize(("returns", "weights", "given", "_"), ODDS)
def test_at_the_break_even_of_decisions_the_worst_corner_reaches_the_mean(returns, weights, given, _):
    returns, weights = np.sort(returns), 1 + 0.05 * np.arange(len(weights))  # larger ones on larger returns
    gamma = break_even_by_decision(returns, weights, given)
    corners = list(product((1 / gamma, gamma), repeat=2))  # of each episode's two decisions
    factors = np.array([(given + (1 - given) * corner).prod(axis=1) for corner in corners])  # (4, n)
    values = []
    for choice in product(range(4), repeat=len(returns)):
        changed = weights * factors[list(choice), np.arange(len(returns))]
        values.append(changed @ returns / changed.sum())
    assert min(values) == pytest.approx(returns.mean())


@pytest.mark.parametrize(("returns", "weights", "given", "predicted"), ODDS)
@pytest.mark.parametrize("gamma", [1.1, 2.0])
def test_balancing_gives_the_smallest_sum_that_a_linear_program_finds(
    returns, weights, given, predicted, gamma
):
    excess = returns - returns.mean()
    balanced = predicted - weights @ predicted / weights.sum()
    ends = [(given + (1 - given) * factor).prod(axis=1) for factor in (1 / gamma, gamma)]
    found, free = (
        lowest_parts(excess, weights, given, what, gamma)[0].sum() for what in (balanced, 0 * balanced)
    )
    solved = linprog(
        weights * excess, A_eq=[weights * balanced], b_eq=[0.0], bounds=list(zip(*ends, strict=True))
    )
    assert found == pytest.approx(solved.fun, abs=1e-3)
    assert free < found


def test_one_confounded_decision_has_the_sharp_bound_in_closed_form():
    """Mean less (1 - 1 / Gamma) of its distance to the worst share of 1 / (1 + Gamma), in each group alike."""
    gamma, group = 2.0, np.arange(3.0)  # whose worst third is its first
    sharp = group.mean() - (1 - 1 / gamma) * (group.mean() - group[0])
    returns, predicted = np.r_[group, group + 10], np.repeat([0.0, 10.0], 3)
    rare = np.ones(6), np.zeros((6, 1))  # doses so rare that odds are probabilities
    bound = lowest_parts(returns - (sharp + 5), *rare, predicted - 5, gamma)[0].sum()
    assert bound == pytest.approx(0, abs=1e-4)
    assert lowest_parts(returns - (sharp + 5), *rare, np.zeros(6), gamma)[0].sum() < -5


def test_in_the_design_of_namkoong_et_al_the_bound_is_the_truth_at_their_gamma_of_2():
    """The second decision of their autism trial, without covariates (Namkoong et al. 2020, section 6, case I).

    Each patient's effect is 0.95 +- 5, and whoever it helps gets the dose with odds of sqrt(2), others with odds of
    1 / sqrt(2). Their Gamma of 2 compares two patients; compared with the average patient, as here, it is sqrt(2).
    """
    theirs, effects = 2.0, 0.95 + 5 * np.array([1.0, -1.0])
    odds = np.sqrt(theirs) ** np.array([1.0, -1.0])
    share = odds / (1 + odds)  # of each kind who get the dose: of those who got it, too, as one half does
    truth, seen = 4 * effects.mean(), 4 * share @ effects
    kappa = brentq(
        lambda k: share @ (np.maximum(4 * effects - k, 0) - theirs * np.maximum(k - 4 * effects, 0)), -99, 99
    )
    assert seen == pytest.approx(7.23, abs=0.01)
    assert seen / 2 + kappa / 2 == pytest.approx(
        truth
    )  # their bound, by their equation for those without the dose

    def lowest(gamma: float) -> float:
        terms = share, np.full((2, 1), 0.5), np.zeros(2), gamma
        return brentq(lambda value: lowest_parts(4 * effects - value, *terms)[0].sum(), -99, 99)

    assert lowest(np.sqrt(theirs)) == pytest.approx(truth)
    assert lowest(theirs) < truth < lowest(1.2) < lowest(1.0) == pytest.approx(seen)


def test_hidden_confounding_of_a_known_strength_is_bounded_and_errors_make_the_gamma_smaller():
    """Half of the patients are sicker, which changes the odds of the dose by 1.5 up or down and nobody recorded."""
    rng, n, gamma = np.random.default_rng(0), 20_000, 1.5
    is_sick = rng.random(n) < 0.5
    true = np.where(is_sick, 1 / (1 + gamma), gamma / (1 + gamma))  # of the dose, recorded as one half
    is_given = rng.random(n) < true
    returns = np.where(rng.random(n) < np.where(is_sick, 0.5, 0.9), 15.0, -15.0)
    weights = is_given / 0.5  # of the policy that always gives it, which is worth what clinicians are
    found = [
        break_even_by_decision(returns, weights, np.full((n, 1), 0.5), standard_errors=errors)
        for errors in (0.0, 1.96)
    ]
    assert weights @ returns / weights.sum() > returns.mean() + 1
    assert 1 < found[1] < found[0] < gamma


def test_doses_that_were_certain_leave_hidden_severity_no_room():
    returns, weights = np.array([1.0, 3.0]), np.array([1.0, 3.0])
    assert break_even_by_decision(returns, weights, np.ones((2, 3))) is None
    assert break_even_by_decision(returns, weights[::-1], np.full((2, 3), 0.5)) == 1.0
    assert break_even_by_decision(returns, weights, np.zeros((2, 1))) == pytest.approx(np.sqrt(3))
    assert break_even_by_decision(returns, np.zeros(2), np.zeros((2, 1))) == 1.0
