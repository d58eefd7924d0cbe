"""What estimated clinicians leave uncertain widens every interval, and nothing else does."""

from dataclasses import replace

import numpy as np
import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation import behavior_refits
from sepsis_cql.evaluation.behavior_refits import refit, widen, widen_by_refits
from sepsis_cql.evaluation.data import assemble_data
from sepsis_cql.evaluation.estimate import estimate_policy
from sepsis_cql.evaluation.known_truth.calibrate import collect, open_environment
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings, CaseSettings
from sepsis_cql.evaluation.policies.base import FunctionPolicy
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy, list_versions
from sepsis_cql.evaluation.record import Difference
from sepsis_cql.evaluation.settings import EvaluationSettings

RESAMPLES, REFITS = 50, 4


@pytest.fixture(scope="module")
def settings():
    shipped = load_shipped(EvaluationSettings, "evaluation.yaml")
    return shipped.model_copy(update={"fqe": shipped.fqe.model_copy(update={"refits": 20})})


@pytest.fixture(scope="module")
def data(settings):
    """Few training episodes of the sepsis simulator, by which clinicians are estimated badly."""
    case = CaseSettings(environment="sepsis-simulator", training=150, scored=200, behavior="estimated")
    chosen = load_shipped(CalibrationSettings, "calibration.yaml")
    return collect(open_environment(case, chosen, settings), case, chosen, settings)


@pytest.fixture(scope="module")
def found(data, settings):
    def act(states):
        return 0.5 * data.clinicians(states) + 0.5 / 25

    policy = EvaluatedPolicy(FunctionPolicy("half random", act), "learned", "none")
    return estimate_policy(policy, data, settings, RESAMPLES)


def test_variances_add_and_values_stay():
    one = Difference(estimator="wdr", value=1.0, lower=-2.0, upper=5.0)
    wider = widen(one, 4 / 1.959963984540054)
    assert (wider.value, wider.lower, wider.upper) == pytest.approx((1.0, -4.0, 1 + 32**0.5))
    assert widen(one, 0.0) == one and widen(one, float("nan")) == one


def test_an_interval_grows_by_the_spread_over_refits(found, data, settings, monkeypatch):
    by_hand = []
    for number in range(REFITS):
        model = refit(data.fitted_on, settings.behavior, settings.seed + number)
        again = estimate_policy(found.evaluated, data.with_behavior(model), settings, RESAMPLES)
        by_hand.append(again.estimates["wis"].value)
    spread = np.std(by_hand, ddof=1)
    wide = widen_by_refits(found, data, settings, REFITS)
    before, after = found.estimates["wis"], wide.estimates["wis"]
    assert after.value == before.value and spread > 0
    assert (after.value - after.lower) ** 2 - (before.value - before.lower) ** 2 == pytest.approx(
        (1.959963984540054 * spread) ** 2, rel=1e-6
    )
    assert wide.difference.upper > found.difference.upper
    assert 0 < wide.distance < found.distance


def test_a_version_near_to_the_clinicians_follows_them(data, settings):
    """Its weights are then policy over clinicians by one and the same model, and hardly change."""
    rules = settings.model_copy(update={"clinician_shares": [0.7]})
    taste = FunctionPolicy("tastes", lambda states: np.tile(np.eye(25)[3] * 0.5 + 0.02, (len(states), 1)))
    version = list_versions(taste, data.clinicians, rules)[1]
    spreads = []
    for evaluated in (version, replace(version, remake=None)):
        found = estimate_policy(evaluated, data, settings, RESAMPLES)
        wide = widen_by_refits(found, data, settings, REFITS)
        spreads.append(wide.estimates["wis"].upper - found.estimates["wis"].upper)
    assert 0 < spreads[0] < spreads[1] / 2


def test_refits_draw_whole_patients(data, settings, monkeypatch):
    asked = []
    monkeypatch.setattr(behavior_refits, "fit_behavior", lambda *given: asked.append(given))
    on = data.fitted_on
    marked = np.stack([on.fitted_patients, np.arange(len(on.fitted_patients))], axis=1).astype(float)
    held = np.stack([on.held_patients, np.arange(len(on.held_patients))], axis=1).astype(float)
    plain = replace(
        on, fitted=(marked, on.fitted[1]), held=(held, on.held[1]), normalizer=lambda states: states
    )
    refit(plain, settings.behavior, 3)
    inputs, actions = asked[0][:2]
    assert np.array_equal(on.fitted[1][inputs[:, 1].astype(int)], actions)
    lengths = dict(zip(*np.unique(on.fitted_patients, return_counts=True), strict=True))
    names, drawn = np.unique(inputs[:, 0], return_counts=True)
    times = [n / lengths[int(name)] for name, n in zip(names, drawn, strict=True)]
    assert all(time == int(time) for time in times)  # no patient in parts
    assert sum(times) == len(lengths) and max(times) > 1


def test_known_clinicians_leave_nothing_uncertain(found, data, settings):
    known = assemble_data(
        data.train,
        data.scored,
        data.normalizer,
        FunctionPolicy("clinicians", data.model.probabilities),
        settings.gamma,
    )
    assert widen_by_refits(found, known, settings, REFITS) is found
