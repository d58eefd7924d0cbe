"""Python in place of the command: functions in memory, one's own model of the clinicians, and what is refused."""

import shutil

import numpy as np
import pytest

import sepsis_cql
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.data import load_evaluation_data
from sepsis_cql.evaluation.policies.base import FunctionPolicy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import HIDDEN
from sepsis_cql.replay.directory import open_replay

QUICK = {
    "resamples": 20,
    "fqe": {"refits": 3, "features": 8, "components": 2},
    "behavior": {"models": ["multinomial logistic"]},
    "tilt_temperatures": [5.0],
}


def values(states):
    return np.tile(np.linspace(1, -1, 25), (len(states), 1))


def uniform(states):
    assert np.isnan(states).any()  # in clinical units, NaN where unknown
    return np.full((len(states), 25), 1 / 25)


@pytest.fixture(scope="module")
def found(demo_replay, tmp_path_factory):
    policy = sepsis_cql.load_policy(values, name="always nothing", gives_values=True)
    out = tmp_path_factory.mktemp("api") / "out"
    return sepsis_cql.evaluate(policy, demo_replay, behavior=uniform, changes=QUICK, out=out), out


def test_values_give_the_greedy_policy_and_softened_ones(found):
    record, _ = found
    assert [one.name for one in record.policies[:2]] == [
        "always nothing",
        "always nothing, clinicians x exp(Q / 5)",
    ]
    assert record.policy.kind == "function"


def test_the_clinicians_are_those_that_were_given(found):
    """Uniform clinicians tilted by exp(Q / 5): the mean weight of their own clone is 1, and no model was fitted."""
    record, out = found
    assert record.behavior is None
    clone = next(one for one in record.policies if one.name == "clone of the clinicians")
    random = next(one for one in record.policies if one.name == "random")
    assert clone.weights.ess == pytest.approx(random.weights.ess)
    assert random.weights.mean_weight == pytest.approx(1)
    assert sepsis_cql.load_evaluation(out) == record


def test_clinicians_of_a_user_are_an_estimate_unless_they_are_said_to_be_exact(found, demo_replay):
    """What is praised over an estimate must withstand a hidden factor, by covariates of a model fitted beside it."""
    hidden = [gate for gate in found[0].policies[0].gates if gate.name == HIDDEN]
    exact = load_shipped(EvaluationSettings, "evaluation.yaml", {"behavior": {"exact": True}})
    given = FunctionPolicy("behavior", uniform)
    data = load_evaluation_data(open_replay(demo_replay), "validation", exact, behavior=given)
    assert len(hidden) == 1 and data.covariates(exact) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "keeps the ledger"),
        ({"behavior": lambda states: np.eye(25)[np.zeros(len(states), int)]}, "probability 0"),
        ({"changes": {"fqe": {"refit": 3}}}, "refit"),
        ({"changes": {"behavior": {"exact": True}}}, "behavior.exact: found true without"),
        ({"policy": lambda states: np.zeros((len(states), 24))}, "shape"),
        (
            {"changes": QUICK | {"bound": 5.0}},
            r"found returns of up to 1[0-9.]+, expected at most the 5 of `bound`",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(demo_replay, tmp_path, options, message):
    out = tmp_path / "out"
    with pytest.raises(SepsisCQLError, match=message):
        sepsis_cql.evaluate(
            **{"policy": uniform, "replay": demo_replay, "changes": QUICK, "out": out} | options
        )
    assert not out.exists()


def test_test_episodes_under_the_name_of_validation_are_refused(demo_replay, tmp_path):
    copy = shutil.copytree(demo_replay, tmp_path / "replay")
    shutil.copy(copy / "test.parquet", copy / "validation.parquet")
    with pytest.raises(SepsisCQLError, match="of its validation split in its test split"):
        sepsis_cql.evaluate(uniform, copy, changes=QUICK)


def test_public_names_are_there_and_others_are_named():
    for name in sepsis_cql.PUBLIC:
        assert callable(getattr(sepsis_cql, name)) and getattr(sepsis_cql, name).__doc__
    with pytest.raises(AttributeError, match="it has Evaluation"):
        _ = sepsis_cql.evalute
