"""The versions of a policy, what the original protocol makes of it, and what it is truly worth."""

import numpy as np

from sepsis_cql.evaluation.data import EvaluationData
from sepsis_cql.evaluation.original_protocol import original_metrics
from sepsis_cql.evaluation.policies.base import Policy, QPolicy, checked_probabilities
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy, soften
from sepsis_cql.evaluation.record import TrueValue
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.synthetic.truth import Truth


def list_versions(
    policy: Policy, data: EvaluationData, rules: EvaluationSettings
) -> dict[str, EvaluatedPolicy]:
    """Return the policy as it acts and its softened versions, by their softening."""
    acts = EvaluatedPolicy(policy, "learned", "greedy" if isinstance(policy, QPolicy) else "none")
    return {version.softening: version for version in [acts, *soften(policy, data.clinicians, rules)]}


def original_values(
    policy: Policy, data: EvaluationData, rules: EvaluationSettings
) -> tuple[float | None, float | None]:
    """Return "FQE" and WIS of the greedy policy by the original definitions; no FQE of a policy without values."""
    has_values = isinstance(policy, QPolicy)
    if isinstance(policy, QPolicy):
        ranked = policy.q_values(data.scored.states)
    else:
        ranked = checked_probabilities(policy, data.scored.states)
    found = original_metrics(data.scored, ranked, gamma=rules.gamma, n_resamples=rules.validation.resamples)
    return found.fqe_mean if has_values and np.isfinite(found.fqe_mean) else None, found.wis_mean


def true_value(policy: Policy, truth: Truth | None, rules: EvaluationSettings) -> TrueValue | None:
    """Return what a policy is worth in the simulator; None for patients."""
    if truth is None:
        return None
    found = truth.value(policy, rules.truth_episodes, rules.seed, gamma=rules.gamma)
    return TrueValue(value=found.value, standard_error=found.standard_error)
