"""Differences by subgroup, on made-up episodes whose effects are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.estimators import importance
from sepsis_cql.evaluation.estimators.fqe import cross_fit
from sepsis_cql.evaluation.estimators.fqe_basis import CPU, Decisions
from sepsis_cql.evaluation.estimators.intervals import resample_counts
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.subgroups import adjust_by_holm, compare_subgroups, group_episodes
from sepsis_cql.replay.transitions import Transitions

REWARD = 13.0


@pytest.fixture(scope="module")
def settings():
    return load_shipped(EvaluationSettings, "evaluation.yaml")


def compare(settings, groups, returns, weights, fitted=0.0):
    """Of a policy whose weights are known; its evaluator sees no difference between patients."""
    data = SimpleNamespace(
        episodes=SimpleNamespace(returns=returns),
        counts=lambda resamples, seed: np.concatenate(list(resample_counts(len(returns), resamples, seed))),
    )
    weighted = importance.SumEstimator(np.stack([weights * returns, weights], axis=1), importance._ratio)
    same = importance.mean_estimator(np.full(len(returns), fitted))
    estimate = SimpleNamespace(
        evaluated=SimpleNamespace(name="policy"),
        weights=weights,
        statistics={settings.gates.independent: weighted, settings.gates.recommended: same},
    )
    return compare_subgroups(estimate, data, groups, settings)


def draw(rng, n, spread=0.6):
    """Returns of n episodes, a quarter of them deaths, and weights of mean 1."""
    returns = np.where(rng.random(n) < 0.25, -REWARD, REWARD)
    return returns, np.exp(spread * rng.standard_normal(n) - spread**2 / 2)


def split_groups(rng, n, sizes=(4, 2, 5, 4, 2, 5)):
    """As many characteristics and groups as a real evaluation has, unrelated to anything."""
    labels = [rng.integers(0, size, n) for size in sizes]
    return [(f"c{c}", str(g), label == g) for c, label in enumerate(labels) for g in range(sizes[c])]


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert adjust_by_holm([0.01, None, 0.04, 0.03, 0.5]) == pytest.approx([0.04, None, 0.09, 0.09, 0.5])
    assert adjust_by_holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_group_that_is_harmed_is_found_though_no_state_tells_of_it(settings):
    rng = np.random.default_rng(3)
    returns, weights = draw(rng, 1500)
    harmed = rng.random(1500) < 0.3
    # the policy does in that group what was followed by death, and nothing else anywhere
    weights = np.where(harmed, np.where(returns < 0, 1.8, 0.75), weights)
    groups = [*split_groups(rng, 1500, (4, 3)), ("sex", "F", harmed), ("sex", "M", ~harmed)]
    rows = compare(settings, groups, returns, weights).rows
    found = {(row.characteristic, row.group): row for row in rows if row.p_adjusted < 0.05}
    assert set(found) == {("sex", "F"), ("sex", "M")}
    assert found["sex", "F"].independent.upper < -4
    blind = found["sex", "F"].difference.value + returns[harmed].mean()
    assert blind == pytest.approx(0)  # the evaluator says of it what it says of everybody


def test_a_policy_that_acts_as_the_clinicians_differs_in_no_group_however_the_group_fared(settings):
    rng = np.random.default_rng(6)
    n, last = 60, np.tile([False, True], 60)
    states = rng.normal(size=(2 * n, 3)).astype(np.float32)
    died = rng.random(n) < 0.3
    scored = Transitions(
        states=states, next_states=states, actions=rng.integers(0, 25, 2 * n), terminals=last,
        rewards=np.where(last, np.where(np.repeat(died, 2), -REWARD, REWARD), 0.0), step_index=np.tile([0, 1], n),
        stay_id=np.repeat(np.arange(n), 2), subject_id=np.repeat(np.arange(n), 2), state_names=("a", "b", "c"),
        normalized=False,
    )  # fmt: skip
    behavior = np.full((2 * n, 25), 0.04)
    counts = np.concatenate(list(resample_counts(n, 5, 0)))
    fitted = cross_fit(scored, Decisions(states, behavior, behavior), counts, settings)
    returns = np.where(died, -REWARD, REWARD)
    weighted = importance.SumEstimator(np.stack([returns, np.ones(n)], axis=1), importance._ratio)
    statistics = {settings.gates.recommended: fitted, settings.gates.independent: weighted}
    estimate = SimpleNamespace(evaluated=SimpleNamespace(name="x"), weights=np.ones(n), statistics=statistics)
    data = SimpleNamespace(
        scored=scored, scored_inputs=states, behavior=behavior, device=CPU,
        episodes=SimpleNamespace(returns=returns), counts=lambda *_: counts,
    )  # fmt: skip
    rows = compare_subgroups(
        estimate, data, [("fate", "died", died), ("fate", "lived", ~died)], settings
    ).rows
    assert [row.difference.value for row in rows] == pytest.approx([0, 0], abs=1e-6)


def test_where_nothing_differs_hardly_ever_any_group_is_named(settings):
    """Family-wise: at most 5%, here of 30 studies with 22 groups."""
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(30):
        returns, weights = draw(rng, 400)
        rows = compare(settings, split_groups(rng, 400), returns, weights).rows
        assert sum(row.p_adjusted is not None for row in rows) >= 15
        named += any(row.p_adjusted is not None and row.p_adjusted < 0.05 for row in rows)
    assert named <= 5  # 5% of 30 are 1.5, with three standard errors 5


def test_nothing_is_said_of_a_group_whose_weights_are_worth_few_episodes(settings):
    rng = np.random.default_rng(1)
    returns, weights = draw(rng, 400)
    few = np.arange(400) < 25
    rows = compare(settings, [("age", "old", few), ("age", "young", ~few)], returns, weights).rows
    assert [row.p_adjusted for row in rows] == [None, None]
    assert [row.independent.value for row in rows] == [None, None]


def test_a_small_group_and_its_complement_are_left_out(settings):
    n = 100
    details = pd.DataFrame(
        {"stay_id": range(n), "age": 60, "gender": ["F"] * 4 + ["M"] * 96, "race": "WHITE", "sofa": 7,
         "is_ventilated": [True] * 50 + [False] * 50, "first_careunit": "MICU"}
    )  # fmt: skip
    scored = SimpleNamespace(episode_starts=np.arange(n), subject_id=np.arange(n))
    groups = group_episodes(details, scored, settings.diagnostics)
    assert [(characteristic, group, int(inside.sum())) for characteristic, group, inside in groups] == [
        ("age", "[50.0, 65.0)", n),
        ("race", "WHITE", n),
        ("SOFA at first step", "[6.0, 10.0)", n),
        ("ventilation", "never ventilated", 50),
        ("ventilation", "ventilated", 50),
        ("first care unit", "MICU", n),
    ]
    scored.subject_id = np.r_[np.arange(50), 50 + np.arange(50) // 10]  # five patients were never ventilated
    groups = group_episodes(details, scored, settings.diagnostics)
    assert "ventilation" not in {characteristic for characteristic, _, _ in groups}
