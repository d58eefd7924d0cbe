"""Where the calibration misses what was aimed at, the sentences under its table say so."""

import pytest

from sepsis_cql.evaluation.known_truth.limits import say_limits
from sepsis_cql.evaluation.known_truth.record import CalibrationLine, Share, measured_lines


def change(line, *, policy=None, difference=None, **of):
    changed = line.policy.model_copy(update=policy or {})
    if difference:
        changed = changed.model_copy(update={"difference": changed.difference.model_copy(update=difference)})
    return CalibrationLine(line.of.model_copy(update=of), changed)


@pytest.fixture(scope="module")
def line():
    """The optimal policy of `icu-sepsis-large`: clinicians known, nothing hidden, gates mostly hold."""
    lines = [line for line in measured_lines() if line.of.case == "icu-sepsis-large"]
    return max(lines, key=lambda line: line.policy.true_gain)


def test_the_widest_interval_of_each_number_of_repetitions_is_said(line):
    shares = [(20, 0.0, 0.17), (20, 0.05, 0.25), (150, 0.01, 0.04)]
    lines = [
        change(
            line,
            repetitions=n,
            policy={"wrongly_endorsed": Share(value=value, lower=0.0, upper=upper)},
        )
        for n, value, upper in shares
    ]
    said = say_limits(lines)[0]
    assert "more than 0.05" in said and "0.040 with 150 repetitions, 0.250 with 20 repetitions" in said


@pytest.mark.parametrize(
    ("policy", "of", "is_counted"),
    [
        ({}, {}, True),
        ({"ess": 499.0}, {}, False),
        ({"true_gain": 0.39}, {}, False),
        ({}, {"is_confounded": True}, False),
    ],
    ids=["large gain", "few episodes", "small gain", "something hidden"],
)
def test_power_counts_large_gains_on_enough_episodes(line, policy, of, is_counted):
    large = {"ess": 500.0, "true_gain": 0.4, "endorsed": Share(value=0.3, lower=0.2, upper=0.4)}
    made = change(line, policy=large | policy, difference={"standard_deviation": 0.1}, **of)
    assert ("known clinicians they do in 0.30 (`icu-sepsis-large`)" in say_limits([made])[1]) == is_counted
    assert "estimated ones in none was tried" in say_limits([made])[1]


@pytest.mark.parametrize(
    ("coverage", "gates", "is_named"),
    [(0.95, 1.0, False), (0.9, 1.0, False), (0.8, 1.0, True), (1.0, 1.0, True), (0.8, 0.4, False)],
    ids=["right", "chance", "too little", "too much", "gates seldom hold"],
)
def test_coverage_beyond_chance_is_named(line, coverage, gates, is_named):
    made = change(
        line,
        repetitions=150,
        policy={"passes_gates": gates},
        difference={"coverage_where_gates_hold": coverage},
    )
    said = say_limits([made])[2]
    assert (f"`icu-sepsis-large` ({coverage:.2f})" in said) == is_named
    assert said.endswith("none.") != is_named
