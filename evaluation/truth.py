"""What a policy is truly worth, where its episodes come from the simulated ICU."""

import numpy as np

from sepsis_cql.evaluation.record import TrueValue
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.synthetic.truth import Policy, Truth


def play(policy: Policy, truth: Truth, settings: EvaluationSettings) -> tuple[TrueValue, np.ndarray | None]:
    """Return the value of a policy by playing it in the simulated ICU, and the (n,) returns of the episodes played."""
    found = truth.value(policy, settings.truth_episodes, settings.seed, gamma=settings.gamma)
    return TrueValue(value=found.value, standard_error=found.standard_error), found.returns
