"""The worst-off and the certain, on episodes whose truth is known on paper."""

from types import SimpleNamespace

import numpy as np
import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.estimators.intervals import resample_counts
from sepsis_cql.evaluation.estimators.lower_bound import bound_difference, bound_mean, bound_value
from sepsis_cql.evaluation.estimators.tails import bootstrap_worst, mean_of_worst
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.tails import describe_tails

BOUND, STEPS = 15.0, 8


def survival(shares):
    """Of patients who get the first of two doses in these shares of their steps."""
    return 0.6 + 0.3 * shares


def value(probability):
    """Of a policy that gives the first dose with a probability, and of the clinicians, who give it with 0.5."""
    return BOUND * (2 * survival(probability) - 1)


def play(rng, n, probability, behavior=0.5):
    """Returns of n patients under the clinicians, and the weights of a policy."""
    doses = rng.random((n, STEPS)) < behavior
    returns = np.where(rng.random(n) < survival(doses.mean(axis=1)), BOUND, -BOUND)
    ratios = np.where(doses, probability / behavior, (1 - probability) / (1 - behavior))
    return returns, ratios.prod(axis=1)


@pytest.mark.parametrize(
    ("weights", "share", "mean"),
    [
        ([1, 1, 1, 1], 0.5, (-10 + 0) / 2),
        ([1, 1, 1, 1], 0.25, -10),
        ([1, 1, 1, 1], 0.4, (-10 + 0.6 * 0) / 1.6),
        ([2, 1, 1, 0], 0.25, 0),  # of the worst nothing, of the next 1 of 4
        ([2, 1, 1, 0], 0.5, (0 + 5) / 2),
        ([0, 0, 0, 0], 0.5, np.nan),
    ],
)
def test_the_mean_of_the_worst_takes_the_part_of_the_weights_inside_the_share(weights, share, mean):
    (found,) = mean_of_worst(np.array([10.0, 5.0, 0.0, -10.0]), np.array(weights, dtype=float), [share])
    assert found == pytest.approx(mean, nan_ok=True)


def test_the_weighted_tail_of_the_clinicians_is_the_tail_of_the_policy():
    rng = np.random.default_rng(0)
    graded = rng.normal(0, 1, 200_000)
    returns, weights = play(rng, 200_000, 0.7)
    truly, _ = play(rng, 200_000, 0.7, behavior=0.7)
    share = [0.5]
    expected = mean_of_worst(truly + graded, np.ones(len(truly)), share)
    assert mean_of_worst(returns + graded, weights, share) == pytest.approx(expected, abs=0.4)
    assert mean_of_worst(returns + graded, np.ones(len(truly)), share) < expected - 1.5


def test_a_tail_has_an_interval_around_it():
    rng = np.random.default_rng(1)
    returns, weights = play(rng, 500, 0.6)
    found, all_dead = bootstrap_worst(returns, weights, [0.5, 0.01], resample_counts(500, 200, 0))
    value, lower, upper = found
    assert lower < value < upper
    assert all_dead == pytest.approx(-BOUND)


@pytest.mark.parametrize(
    ("n", "role", "identified"),
    [(400, "learned", [True, True]), (160, "learned", [False, False]), (90, "clinicians", [False, True])],
)
def test_a_tail_of_too_few_effective_episodes_is_not_identified(n, role, identified):
    """Of 400 episodes the weights are worth 290, of 160 about 120; the tenth of 90 are 9."""
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", {"resamples": 20})
    returns, weights = play(np.random.default_rng(2), n, 0.5 if role == "clinicians" else 0.6)
    estimate = SimpleNamespace(weights=weights, evaluated=SimpleNamespace(role=role))
    data = SimpleNamespace(
        episodes=SimpleNamespace(returns=returns),
        counts=lambda size, seed: np.concatenate(list(resample_counts(n, size, seed))),
    )
    tails = describe_tails(estimate, data, settings)
    assert [tail.value is not None for tail in tails] == identified
    assert [tail.share for tail in tails] == [0.1, 0.25] and tails[0].true_value is None


@pytest.mark.parametrize(("n", "probability"), [(20, 0.6), (150, 0.7), (150, 0.9)])
def test_the_lower_bounds_hold_at_any_number_of_episodes(n, probability):
    """At most 5% of 200 draws are above the truth, with three standard errors 9.6%."""
    rng = np.random.default_rng(n)
    truth, gain = value(probability), value(probability) - value(0.5)
    draws = [play(rng, n, probability) for _ in range(200)]
    assert np.mean([bound_value(*draw, BOUND) > truth for draw in draws]) <= 0.096
    assert np.mean([bound_difference(*draw, BOUND) > gain for draw in draws]) <= 0.096


def test_a_bound_that_takes_the_sample_for_large_fails_where_this_one_holds():
    """One patient in 200 has a weight of 100 and dies: rarely seen, half of what a policy is worth."""
    rng = np.random.default_rng(4)
    n, misses, normal_misses = 100, 0, 0
    for _ in range(200):
        rare = rng.random(n) < 0.005
        returns, weights = np.where(rare, -BOUND, BOUND), np.where(rare, 100.0, 0.5 / 0.995)
        total = weights * returns
        normal_misses += total.mean() - 1.645 * total.std(ddof=1) / np.sqrt(n) > 0
        misses += bound_value(returns, weights, BOUND) > 0
    assert normal_misses > 100
    assert misses <= 19


def test_the_bounds_approach_the_truth():
    rng = np.random.default_rng(5)
    returns, weights = play(rng, 20_000, 0.6)
    assert value(0.6) - 0.6 < bound_value(returns, weights, BOUND) < value(0.6)
    assert 0 < bound_difference(returns, weights, BOUND) < value(0.6) - value(0.5)
    assert bound_mean(np.zeros(50)) == 0.0


def test_weights_that_are_too_large_on_the_whole_praise_nobody():
    """Of clinicians' probabilities estimated a tenth too low at both steps, for a policy that acts as they do."""
    rng = np.random.default_rng(6)
    returns, _ = play(rng, 2000, 0.5)
    weights = np.full(2000, 1 / 0.9**2)
    assert bound_difference(returns, weights, BOUND) <= 0
    assert bound_value(returns, weights, BOUND) < returns.mean()
