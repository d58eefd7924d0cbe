"""Fitted Q evaluation reaches the fixed point it is defined by, and its refits are refits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.data import assemble_data
from sepsis_cql.evaluation.estimators.episodes import patients_of
from sepsis_cql.evaluation.estimators.fqe import _folds, cross_fit, fit_on_training, make_fqe_data
from sepsis_cql.evaluation.estimators.fqe_basis import Decisions, new_basis
from sepsis_cql.evaluation.estimators.intervals import resample_counts
from sepsis_cql.evaluation.estimators.lstd import FqeData, episode_pulls, solve
from sepsis_cql.evaluation.policies.base import FunctionPolicy, tilt_behavior
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.replay.transitions import Transitions


@pytest.fixture(scope="module")
def settings():
    return load_shipped(EvaluationSettings, "evaluation.yaml")


@pytest.fixture(scope="module")
def unbounded(settings):
    """Without the sweeps with bounded targets, which move no parameter."""
    return settings.fqe.model_copy(update={"sweeps": 0})


def test_golden_decision_process(golden, settings):
    given = golden["inputs"]["D"]
    expected = {name: np.array(entry["value"]) for name, entry in golden["expected"]["D"].items()}
    state, action, reward, following, done = np.array(given["transitions"]).T
    policy, n_actions = np.array(given["pi"]), given["n_actions"]
    pair = np.eye(given["n_states"] * n_actions)
    ahead = np.zeros((len(state), len(pair)))
    for row in np.flatnonzero(done == 0):
        for choice, share in enumerate(policy[following[row]]):
            ahead[row, n_actions * following[row] + choice] = given["gamma"] * share
    data = FqeData(
        features=torch.tensor(pair[n_actions * state + action]),
        next_features=torch.tensor(ahead),
        rewards=torch.tensor(reward / 15),
        episode=torch.arange(len(state)),
    )
    q = 15 * solve(data, settings.fqe.model_copy(update={"ridge": 1e-7})).parameters.numpy().reshape(
        policy.shape
    )
    assert q == pytest.approx(expected["Q"], rel=1e-4)
    value = np.array(given["d0"]) @ (policy * q).sum(axis=1)
    assert value == pytest.approx(float(expected["value"]), rel=1e-4)
    assert value != pytest.approx(float(expected["TRAP_max_value"]), rel=0.1)


def one_step_stays(n, n_deaths):
    """Stays of one step with the same state, worth +15 or -15."""
    died = np.arange(n) < n_deaths
    ones = np.ones((n, 3), dtype=np.float32)
    stays = Transitions(
        states=ones,
        actions=np.arange(n) % 25,
        rewards=np.where(died, -15.0, 15.0),
        next_states=ones,
        terminals=np.ones(n, bool),
        stay_id=np.arange(n),
        subject_id=np.arange(n),
        step_index=np.zeros(n, np.int64),
        state_names=("a", "b", "c"),
        normalized=True,
    )
    even = np.full((n, 25), 1 / 25)
    return stays, Decisions(ones, even, even)


def test_one_step_problem_worth_nine_gives_nine(settings):
    stays, decisions = one_step_stays(5000, 1000)
    counts = np.concatenate(list(resample_counts(5000, 300, 1)))
    for result in (
        fit_on_training(stays, decisions, stays, decisions, counts, settings),
        cross_fit(stays, decisions, counts, settings),
    ):
        assert result.value == pytest.approx(9.0, abs=0.02)  # the ridge is one transition in thousands
        assert result.bounded_value == pytest.approx(9.0, abs=0.02)
        lower, upper = result.interval()
        standard_error = np.sqrt((15**2 - 9**2) / 5000)
        assert (upper - lower) / 3.92 == pytest.approx(standard_error, rel=0.15)


def test_ten_stays_of_each_patient_are_the_evidence_of_one(settings):
    """All stays of a patient end alike, so that 5,000 of them tell what 500 of different patients would."""
    stays, decisions = one_step_stays(5000, 1000)
    everyone = FunctionPolicy("clinicians", lambda states: np.full((len(states), 25), 1 / 25))
    widths = []
    for patient in (stays.subject_id, stays.subject_id // 10):
        known = replace(stays, subject_id=patient)
        data = assemble_data(known, known, lambda states: states, everyone, 0.99)
        counts = data.counts(300, 1)
        assert (counts[:, :10].std(axis=1) == 0).all() == (patient[9] == 0)
        crossed = cross_fit(known, decisions, counts, settings)
        trained = fit_on_training(known, decisions, known, decisions, counts, settings)
        widths.append([upper - lower for lower, upper in (crossed.interval(), trained.interval())])
    assert np.array_equal(data.counts(3, 1)[:, ::10], next(resample_counts(500, 3, 1)))
    assert np.divide(widths[1], widths[0]) == pytest.approx(np.sqrt(10), rel=0.15)


def test_one_patient_cannot_be_cross_fitted(settings):
    stays, decisions = one_step_stays(1, 0)
    with pytest.raises(EvaluationError, match="at least 2"):
        cross_fit(stays, decisions, np.ones((3, 1)), settings)


@pytest.fixture(scope="module")
def softened(icu):
    policy = tilt_behavior(icu.optimal_q, np.maximum(icu.clinicians, 1e-12), 1.0)
    stays = icu.simulate(1000, 5)
    index = icu.state_index(stays.states)
    return stays, Decisions(stays.states, policy[index], icu.clinicians[index]), icu.true_value(policy)


def test_features_are_put_together_of_the_same_numbers(softened, settings):
    """Column by column; of the next step, discounted, and 0 after the end of a stay."""
    stays, decisions, _ = softened
    basis = new_basis(decisions.inputs, settings.fqe, 1)
    data, initial = make_fqe_data(basis, stays, decisions, settings)
    x, policy, behavior = (
        torch.tensor(part).double() for part in (decisions.inputs, decisions.policy, decisions.behavior)
    )
    one = x.new_ones(len(x), 1)
    few = torch.cat([one, x @ basis.components], dim=1)
    ratio = policy / behavior.clamp(min=settings.fqe.smallest_probability)
    logs = ratio.log().clamp(-settings.fqe.largest_log_ratio, settings.fqe.largest_log_ratio)

    def joined(weights):
        each = (weights[:, :, None] * few[:, None, :]).flatten(1)
        tilts = [(weights * part).sum(dim=1) for part in (ratio.clamp(max=settings.fqe.largest_ratio), logs)]
        shared = [one, x, torch.relu(x @ basis.directions + basis.offsets)]
        return torch.cat([*shared, each, torch.stack(tilts, dim=1)], dim=1)

    expected = joined(policy)
    following = torch.roll(expected, -1, dims=0) * ~torch.tensor(stays.terminals)[:, None]
    assert torch.equal(data.features, joined(torch.eye(25, dtype=x.dtype)[stays.actions]))
    assert torch.equal(data.next_features, settings.gamma * following)
    assert torch.equal(initial, expected[stays.episode_starts])


def test_first_order_refits_are_what_new_fits_give(softened, settings, unbounded):
    stays, decisions, _ = softened
    basis = new_basis(decisions.inputs, settings.fqe, 1)
    data, initial = make_fqe_data(basis, stays, decisions, settings)
    initial = initial.mean(dim=0)
    fit = solve(data, unbounded)
    counts = np.concatenate(list(resample_counts(stays.n_episodes, 12, 2)))
    pulls = episode_pulls(data, fit, stays.n_episodes)
    first_order = initial @ (fit.parameters[:, None] + pulls @ torch.tensor(counts.T - 1))
    exact = torch.stack(
        [initial @ solve(data, unbounded, torch.tensor(row)[data.episode]).parameters for row in counts]
    )
    assert np.corrcoef(first_order.numpy(), exact.numpy())[0, 1] > 0.95
    assert float(first_order.std() / exact.std()) == pytest.approx(1, abs=0.2)


def test_a_fold_is_valued_by_the_evaluator_that_is_fitted_on_the_others_alone(softened, settings, unbounded):
    stays, decisions, _ = softened
    rules = settings.model_copy(update={"fqe": unbounded})
    found = cross_fit(stays, decisions, np.ones((2, stays.n_episodes)), rules)
    data, initial = make_fqe_data(new_basis(decisions.inputs, unbounded, rules.seed), stays, decisions, rules)
    folds = list(_folds(patients_of(stays), rules))
    assert np.array_equal(sum(inside.astype(int) for inside in folds), np.ones(stays.n_episodes))
    for inside in folds:
        fit = solve(data.rows(~inside[data.episode.numpy()]), unbounded)
        assert found.initial_values[inside] == pytest.approx(15 * (initial[inside] @ fit.parameters).numpy())


def test_the_order_of_sums_moves_no_value_even_where_the_policy_leaves_the_data(
    icu, softened, settings, unbounded
):
    stays = softened[0]
    index = icu.state_index(stays.states)
    never = np.argmin(icu.clinicians, axis=1)  # the dose that clinicians give least
    decisions = Decisions(stays.states, np.eye(25)[never[index]], icu.clinicians[index])
    basis = new_basis(decisions.inputs, settings.fqe, 1)
    data, initial = make_fqe_data(basis, stays, decisions, settings)
    order = torch.randperm(len(data.rewards), generator=torch.Generator().manual_seed(0))
    shuffled = FqeData(
        *(getattr(data, name)[order] for name in ("features", "next_features", "rewards", "episode"))
    )
    values = [float(15 * (initial @ solve(part, unbounded).parameters).mean()) for part in (data, shuffled)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_interval_is_as_wide_as_the_estimate_is_uncertain(icu, softened, settings, unbounded):
    _, _, truth = softened
    rules = settings.model_copy(update={"fqe": unbounded})
    policy = tilt_behavior(icu.optimal_q, np.maximum(icu.clinicians, 1e-12), 1.0)
    errors, widths = [], []
    for seed in range(12):
        stays = icu.simulate(400, 100 + seed)
        index = icu.state_index(stays.states)
        counts = np.concatenate(list(resample_counts(400, 100, seed)))
        result = cross_fit(
            stays, Decisions(stays.states, policy[index], icu.clinicians[index]), counts, rules
        )
        lower, upper = result.interval()
        errors.append(result.value - truth)
        widths.append((upper - lower) / 3.92)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.mean(widths), rel=0.6)
