"""Models of the clinicians that answer sooner than scikit-learn's answer the same."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.policies.behavior import _choose_calibration
from sepsis_cql.evaluation.policies.boosting import Boosting
from sepsis_cql.evaluation.settings import EvaluationSettings


@pytest.mark.parametrize("n", [1, 2000, 4100])
def test_trees_that_look_at_parts_of_the_decisions_answer_as_those_of_scikit_learn(n):
    rng = np.random.default_rng(5)
    inputs, actions = rng.normal(size=(4100, 5)).astype(np.float32), rng.integers(0, 25, 4100)
    model = Boosting(max_iter=2, max_leaf_nodes=7, early_stopping=False).fit(inputs, actions)
    expected = HistGradientBoostingClassifier.predict_proba(model, inputs[:n])
    assert (model.predict_proba(inputs[:n]) == expected).all()


def test_temperature_and_share_are_those_of_the_whole_softmax():
    settings = load_shipped(EvaluationSettings, "evaluation.yaml").behavior
    rng = np.random.default_rng(2)
    logs = np.maximum(rng.normal(scale=3, size=(200, 25)) - 5, np.log(settings.floor))
    actions, marginal = rng.integers(0, 25, 200), rng.dirichlet(np.ones(25))
    every = [
        (temperature, share, np.log((1 - share) * own + share * marginal[actions]).mean())
        for temperature in settings.temperatures
        for own in [softmax(logs / temperature, axis=1)[np.arange(200), actions]]
        for share in settings.marginal_shares
    ]
    assert _choose_calibration(logs, actions, marginal, settings) == max(every, key=lambda one: one[2])
