"""The model of the clinicians does not depend on the order of sums, which is another on every machine."""

import numpy as np

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.policies.behavior import fit_behavior
from sepsis_cql.evaluation.settings import EvaluationSettings

N, D = 4000, 20


def test_the_order_of_decisions_moves_no_probability():
    rng = np.random.default_rng(0)
    inputs = (rng.standard_normal((N, D)) @ rng.standard_normal((D, D)) / 4).astype(np.float32)
    scores = inputs @ rng.standard_normal((D, 25)) / 3 + rng.gumbel(size=(N, 25))
    actions = scores.argmax(axis=1)
    shipped = load_shipped(EvaluationSettings, "evaluation.yaml").behavior
    settings = shipped.model_copy(update={"models": ["multinomial logistic"], "selection_rows": N})
    plain, shuffled = (
        fit_behavior(inputs[order], actions[order], inputs, actions, settings, seed=1)
        for order in (np.arange(N), rng.permutation(N))
    )
    np.testing.assert_allclose(plain.probabilities(inputs), shuffled.probabilities(inputs), rtol=1e-7, atol=0)
