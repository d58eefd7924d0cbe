"""Counts below ten stay unknown to whoever adds, subtracts and multiplies everything that is published."""

import itertools

import numpy as np
import pytest

from sepsis_cql.common.privacy import floor_size, hides_outcomes, round_count, round_part, round_share
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.evaluation.policies.behavior import Covariate
from sepsis_cql.evaluation.record import Gate, load_evaluation
from sepsis_cql.evaluation.verdict import HIDDEN, UNDONE_BY, say_yardstick
from sepsis_cql.publishing.evidence import FOLDER
from sepsis_cql.publishing.guard.disclosure import WIS, reduce_evaluation
from sepsis_cql.publishing.guard.evaluation import A_COVARIATE


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
    assert hides_outcomes(mean, episodes, 15.0) is hidden
    assert (round_part(deaths, episodes) == "<10") is hidden


def test_reducing_a_published_evaluation_changes_nothing():
    once = reduce_evaluation(load_evaluation(ROOT / FOLDER))
    assert reduce_evaluation(once) == once


def test_no_value_gives_few_deaths_away_by_the_clinicians_mean():
    found = load_evaluation(ROOT / FOLDER)
    clinicians = next(one for one in found.policies if "observed" in one.estimates)
    mean = 15 * 0.9 * (380 - 2 * 6) / 380  # six deaths among 380
    observed = clinicians.estimates["observed"].model_copy(update={"value": mean})
    told = clinicians.model_copy(update={"estimates": {"observed": observed}})
    policies = [told if one is clinicians else one for one in found.policies]
    reduced = reduce_evaluation(found.model_copy(update={"policies": policies}))
    for policy in reduced.policies:
        values = [*policy.estimates.values(), *policy.differences.values()]
        assert all(one.value is one.lower is one.upper is None for one in values)
        assert policy.difference_to_clinicians is None or policy.difference_to_clinicians.value is None
    assert all(getattr(reduced.published, name) is None for name in WIS)
    assert reduce_evaluation(reduced) == reduced


def test_covariates_that_only_a_user_has_are_not_named():
    found = load_evaluation(ROOT / FOLDER)
    praised = next(one for one in found.policies if one.differences and one.verdict.reasons[0][:4] == "diff")
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
        reduced = reduce_evaluation(changed)
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
