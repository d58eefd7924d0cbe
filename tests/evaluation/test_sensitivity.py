"""Bounds under hidden confounding, against every corner of what the weights may be."""

from itertools import product

import numpy as np
import pytest

from sepsis_cql.evaluation.estimators.sensitivity import break_even, break_even_by_decision, lower_value

CASES = [
    (np.array([15.0, -15.0, 3.0, 3.0]), np.array([1.0, 0.5, 2.0, 0.0])),
    (np.random.default_rng(0).normal(size=7), np.random.default_rng(1).exponential(size=7)),
    (np.random.default_rng(2).choice([-15.0, 15.0], 6), np.random.default_rng(3).exponential(size=6)),
]


@pytest.mark.parametrize(("returns", "weights"), CASES)
@pytest.mark.parametrize("gamma", [1.0, 1.2, 3.0])
def test_lower_value_is_the_smallest_over_all_corners(returns, weights, gamma):
    corners = np.array(list(product((1 / gamma, gamma), repeat=len(returns)))) * weights
    assert lower_value(returns, weights, gamma) == pytest.approx(
        (corners @ returns / corners.sum(axis=1)).min()
    )


@pytest.mark.parametrize(("returns", "weights"), CASES)
def test_nothing_hidden_leaves_weighted_importance_sampling(returns, weights):
    assert lower_value(returns, weights, 1.0) == pytest.approx(weights @ returns / weights.sum())


@pytest.mark.parametrize(("returns", "weights"), CASES)
def test_more_hidden_lowers_the_value_towards_the_worst_return(returns, weights):
    values = [lower_value(returns, weights, gamma) for gamma in (1, 1.1, 2, 5, 1e6)]
    assert (np.diff(values) < 0).all()
    assert values[-1] == pytest.approx(returns[weights > 0].min(), abs=1e-4)


@pytest.mark.parametrize(("returns", "weights"), CASES)
def test_at_the_break_even_the_lower_value_is_the_target(returns, weights):
    target = weights @ returns / weights.sum() - 0.2
    gamma = break_even(returns, weights, target)
    assert gamma > 1
    assert lower_value(returns, weights, gamma) == pytest.approx(target)


def test_what_is_not_above_the_target_breaks_at_once_and_what_cannot_fall_below_it_never():
    returns, weights = np.array([1.0, 3.0]), np.ones(2)
    assert break_even(returns, weights, 2.0) == 1.0
    assert break_even(returns, weights, 2.5) == 1.0
    assert break_even(returns, weights, 1.0) is None
    assert break_even(returns, weights, 1.5) == pytest.approx(np.sqrt(3))


def test_without_weight_there_is_no_value():
    assert np.isnan(lower_value(np.ones(3), np.zeros(3), 2.0))
    assert break_even(np.ones(3), np.zeros(3), 0.0) == 1.0


@pytest.mark.parametrize(("returns", "weights"), CASES)
def test_at_the_break_even_of_decisions_the_worst_corner_reaches_the_target(returns, weights):
    given = np.random.default_rng(4).uniform(0.2, 0.9, (len(returns), 2))
    target = weights @ returns / weights.sum() - 0.2
    gamma = break_even_by_decision(returns, weights, given, target)
    corners = list(product((1 / gamma, gamma), repeat=2))  # of each episode's two decisions
    factors = np.array([(given + (1 - given) * corner).prod(axis=1) for corner in corners])  # (4, n)
    chosen = (
        product(range(4), repeat=len(returns))
        if len(returns) < 6
        else [np.where(returns > target, factors.argmin(axis=0), factors.argmax(axis=0))]
    )
    values = []
    for choice in chosen:
        changed = weights * factors[list(choice), np.arange(len(returns))]
        values.append(changed @ returns / changed.sum())
    assert min(values) == pytest.approx(target)


def test_doses_that_were_certain_leave_hidden_severity_no_room():
    returns, weights = np.array([1.0, 3.0]), np.ones(2)
    assert break_even_by_decision(returns, weights, np.ones((2, 3)), 1.5) is None
    assert break_even_by_decision(returns, weights, np.full((2, 3), 0.5), 2.5) == 1.0
    assert break_even_by_decision(returns, weights, np.zeros((2, 1)), 1.5) == pytest.approx(np.sqrt(3))
