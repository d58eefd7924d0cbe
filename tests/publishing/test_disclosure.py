"""Counts below ten stay unknown to whoever adds, subtracts and multiplies everything that is published."""

import dataclasses
import itertools

import numpy as np
import pytest

from sepsis_cql.common.privacy import (
    floor_size,
    round_count,
    round_part,
    round_share,
    show_with_enough_hidden,
)
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.policies.behavior import Covariate
from sepsis_cql.evaluation.record import Gate, Tail, load_evaluation
from sepsis_cql.evaluation.report.record import Interval, ValueCalibration
from sepsis_cql.evaluation.verdict import HIDDEN, UNDONE_BY, say_yardstick
from sepsis_cql.publishing.card import render_pages
from sepsis_cql.publishing.evidence import FOLDER, read_records
from sepsis_cql.publishing.guard.disclosure import WIS, final_reward, reduce_evaluation
from sepsis_cql.publishing.guard.evaluation import A_COVARIATE
from sepsis_cql.publishing.guard.wording import is_known_group
from sepsis_cql.replay.settings import ReplaySettings

SETTINGS = load_shipped(ReplaySettings, "replay.yaml")
REWARD = final_reward(SETTINGS, 0.99)


def possible(shown):
    """Lowest and highest count that is shown so."""
    return (1, 9) if shown == "<10" else (max(0, shown - 5), shown + 4)


def attack(shown, total):
    """Range of each part that all parts and their total leave, by every sum and difference."""
    low, high = zip(*(possible(part) for part in shown), strict=True)
    least, most = possible(total)
    return [
        (
            max(low[i], least - (sum(high) - high[i])),
            min(high[i], most - (sum(low) - low[i])),
        )
        for i in range(len(shown))
    ]


@pytest.mark.parametrize("parts", [2, 3, 4, 25])
def test_no_part_of_a_table_with_its_total_is_pinned_down(parts):
    rng = np.random.default_rng(parts)
    for _ in range(400):
        counts = rng.integers(0, rng.choice([6, 12, 40, 300]), parts)
        shown = [round_count(int(count)) for count in counts]
        for count, (low, high) in zip(counts, attack(shown, round_count(int(counts.sum()))), strict=True):
            assert low <= count <= high
            if 0 < count < 10:
                assert high > low, (counts, shown)


def test_crossed_tables_leave_every_small_cell_open():
    rng = np.random.default_rng(7)
    for _ in range(100):
        grid = rng.integers(0, 14, (5, 5))
        shown = [[round_count(int(cell)) for cell in row] for row in grid]
        for i, j in itertools.product(range(5), range(5)):
            ranges = [
                attack(shown[i], round_count(int(grid[i].sum())))[j],
                attack([row[j] for row in shown], round_count(int(grid[:, j].sum())))[i],
            ]
            low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
            assert not 0 < grid[i, j] < 10 or high > low


@pytest.mark.parametrize("whole", [11, 23, 47, 380, 2650])
def test_share_times_whole_is_a_count_in_tens(whole):
    for part in range(0, whole + 1, max(1, whole // 60)):
        share = round_share(part / whole, whole)
        product = share * round_count(whole)
        assert abs(product - 10 * round(product / 10)) < 0.2 or share == 1.0
        assert round_share(share, whole) == share
        if 0 < part < 10:
            assert share in {round_share(other / whole, whole) for other in range(1, 10) if other != part}


def test_size_that_equals_a_number_of_patients_is_shown_in_tens():
    assert [floor_size(size) for size in (0.0, 1.0, 9.99, 10.0, 47.3)] == [0, 0, 0, 10, 40]


@pytest.mark.parametrize(("deaths", "episodes", "hidden"), [(3, 47, True), (44, 47, True), (101, 380, False)])
def test_mean_return_is_hidden_where_it_would_count_few_deaths_or_survivors(deaths, episodes, hidden):
    mean = 15 * 0.9 * (episodes - 2 * deaths) / episodes
    assert REWARD.hides(mean, episodes) is hidden
    assert (round_part(deaths, episodes) == "<10") is hidden


@pytest.mark.parametrize("deaths", [0, 3, 9, 377])
@pytest.mark.parametrize(("hours", "gamma"), [(4, 0.99), (2, 0.99), (1, 0.99), (4, 0.9), (4, 0.5), (4, 1.0)])
def test_few_deaths_are_hidden_however_much_returns_are_discounted(deaths, hours, gamma):
    settings = SETTINGS.model_copy(update={"step_hours": hours, "terminal_reward": 100.0})
    steps = np.random.default_rng(deaths).integers(1, 72 // hours + 1, (3, 380))
    steps[0], steps[1] = 72 // hours, 1  # all stays as long, or as short, as they may be
    outcome = np.where(np.arange(380) < deaths, -100.0, 100.0)
    for lengths in steps:
        assert final_reward(settings, gamma).hides(float((outcome * gamma ** (lengths - 1)).mean()), 380)


def test_what_is_left_of_the_whole_gives_no_hidden_mean_away():
    rng, shown_at_all = np.random.default_rng(5), 0
    for _ in range(300):
        sizes = rng.integers(3, 120, rng.integers(2, 7))
        deaths = rng.binomial(sizes, rng.uniform(0, 0.6, len(sizes)))
        means = 15 * 0.9 * (sizes - 2 * deaths) / sizes
        alone = {
            i: (int(sizes[i]), means[i])
            for i in range(len(sizes))
            if not REWARD.hides(means[i], int(sizes[i]))
        }
        whole = int(sizes.sum()), float((sizes * means).sum() / sizes.sum())
        shown = show_with_enough_hidden(alone, whole, REWARD.hides)
        hidden = [i for i in range(len(sizes)) if i not in shown]
        shown_at_all += bool(shown)
        if shown and hidden:
            assert min(deaths[hidden].sum(), (sizes - deaths)[hidden].sum()) >= 10, (sizes, deaths, shown)
    assert shown_at_all > 50


def test_a_fifth_with_few_deaths_is_not_left_over():
    """Five means and that of all: a single one that is hidden would follow from the others."""
    found = load_evaluation(ROOT / FOLDER)
    mean = next(one.estimates["observed"].value for one in found.policies if "observed" in one.estimates)
    means = [13.0, *np.full(4, (5 * mean - 13.0) / 4)]
    rows = [ValueCalibration(predicted=0.0, observed=value) for value in means]
    diagnostics = found.diagnostics.model_copy(update={"q_calibration": rows})
    reduced = reduce_evaluation(found.model_copy(update={"diagnostics": diagnostics}), SETTINGS)
    assert [row.observed for row in reduced.diagnostics.q_calibration] == [float(f"{means[1]:.5g}")] * 3
    assert reduce_evaluation(reduced, SETTINGS) == reduced


@pytest.mark.parametrize(
    ("shares", "shown"),
    [
        ([0.5, 0.5026], [0.5]),
        ([0.5, 0.53], [0.5, 0.53]),
        ([0.5, 0.99], [0.5]),
        ([0.02, 0.5], [0.5]),
        ([0.53, 0.5], [0.53, 0.5]),
    ],
)
def test_between_two_tails_lie_at_least_ten_patients(shares, shown):
    """Else the difference of two means of the worst-off is one patient's return."""
    found = load_evaluation(ROOT / FOLDER)
    found = found.model_copy(update={"n_episodes": 380, "n_patients": 380})
    tails = [Tail(share=share, value=1.0, lower=0.0, upper=2.0, true_value=None) for share in shares]
    weights = found.policies[-1].weights.model_copy(update={"ess": 380.0})
    clinicians = found.policies[-1].model_copy(update={"tails": tails, "weights": weights})
    changed = found.model_copy(update={"policies": [*found.policies[:-1], clinicians]})
    reduced = reduce_evaluation(changed, SETTINGS)
    assert [tail.share for tail in reduced.policies[-1].tails if tail.value is not None] == shown
    assert reduce_evaluation(reduced, SETTINGS) == reduced


def test_shares_of_gates_are_in_tens_of_decisions():
    found = load_evaluation(ROOT / FOLDER)
    for policy in reduce_evaluation(found, SETTINGS).policies:
        for gate in policy.gates:
            if gate.name.startswith(("support: ", "local support: ")):
                tens = gate.value * found.n_transitions / 10
                assert tens == pytest.approx(round(tens), abs=1e-6 * found.n_transitions)  # of five digits


def test_only_the_shipped_bands_of_age_and_severity_are_published():
    assert is_known_group("age", "[65.0, 80.0)") and is_known_group("SOFA at first step", "[15.0, inf)")
    assert not is_known_group("age", "[65.0, 66.0)") and not is_known_group(
        "SOFA at first step", "[5.0, 10.0)"
    )


def test_reducing_a_published_evaluation_changes_nothing():
    once = reduce_evaluation(load_evaluation(ROOT / FOLDER), SETTINGS)
    assert reduce_evaluation(once, SETTINGS) == once


def test_no_value_gives_few_deaths_away_by_the_clinicians_mean(clean):
    found = load_evaluation(ROOT / FOLDER)
    clinicians = next(one for one in found.policies if "observed" in one.estimates)
    mean = 15 * 0.9 * (380 - 2 * 6) / 380  # six deaths among 380
    observed = clinicians.estimates["observed"].model_copy(update={"value": mean})
    told = clinicians.model_copy(update={"estimates": {"observed": observed}})
    policies = [told if one is clinicians else one for one in found.policies]
    reduced = reduce_evaluation(found.model_copy(update={"policies": policies}), SETTINGS)
    for policy in reduced.policies:
        values = [*policy.estimates.values(), *policy.differences.values()]
        assert all(one.value is one.lower is one.upper is None for one in values)
        assert policy.difference_to_clinicians is None or policy.difference_to_clinicians.value is None
        assert all(tail.value is None for tail in policy.tails)
    assert all(getattr(reduced.published, name) is None for name in WIS)
    diagnostics = reduced.diagnostics
    assert diagnostics.evaluator is None and diagnostics.q_calibration == []
    rows = [*diagnostics.subgroups, *diagnostics.differences.rows]
    intervals = [value for row in rows for value in vars(row).values() if isinstance(value, Interval)]
    assert len(intervals) == 2 * len(rows) and all(interval.value is None for interval in intervals)
    assert reduce_evaluation(reduced, SETTINGS) == reduced
    records = dataclasses.replace(read_records(clean), evaluation=reduced)
    assert "not shown" in render_pages(records, [])["README.md"].decode()


def test_covariates_that_only_a_user_has_are_not_named():
    found = load_evaluation(ROOT / FOLDER)
    praised = next(one for one in found.policies if one.softening == found.frozen)
    for name, shown in (("lactate", "lactate"), ("ward 7 of Dr. Miller", A_COVARIATE)):
        covariate = Covariate(name=name, odds=1.321, weights=2.0)
        gate = Gate(
            name=HIDDEN, value=1.1, threshold=say_yardstick("1.32", name), passed=False, is_for_endorsement=True,
            meaning=UNDONE_BY.format(name),
        )  # fmt: skip
        changed = found.model_copy(
            update={
                "policies": [
                    found.policies[0],
                    praised.model_copy(update={"gates": [*praised.gates, gate]}),
                    found.policies[-1],
                ],
                "behavior": found.behavior.model_copy(update={"covariates": [covariate]}),
                "frozen": praised.softening,
                "verdict": praised.verdict,
            }
        )
        reduced = reduce_evaluation(changed, SETTINGS)
        assert reduced.behavior.covariates[0].name == shown
        assert reduced.policies[1].gates[-1].threshold == f"at least 1.32, as leaving out {shown} does"
        assert name == shown or name not in reduced.model_dump_json()


def test_every_number_of_patients_in_the_shipped_evaluation_is_in_tens():
    found = load_evaluation(ROOT / FOLDER)
    counts = [found.n_episodes, found.n_patients, found.n_transitions, found.published.n_episodes]
    counts += [row.n_episodes for row in found.diagnostics.subgroups]
    counts += [row.n_patients for row in found.diagnostics.agreement_by_sofa]
    assert all(count == "<10" or count % 10 == 0 for count in counts)
    assert found.diagnostics.weights.largest_shares == []
    for policy in found.policies:
        assert policy.weights.largest_weight_share is None
        if policy.weights.ess < 10:
            assert policy.estimates["wis"].value is None
