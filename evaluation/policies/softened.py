"""The versions of a policy that are evaluated: as it acts, softened towards clinicians, and the baselines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sepsis_cql.evaluation.policies.base import (
    FunctionPolicy,
    Policy,
    QPolicy,
    baseline_policies,
    mix,
    tilt_behavior,
)
from sepsis_cql.evaluation.settings import EvaluationSettings

Role = Literal["learned", "softened", "baseline", "clinicians"]
CLONE = "clone of the clinicians"
Probabilities = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EvaluatedPolicy:
    """One policy exactly as it is evaluated, the same in every estimator.

    Attributes:
        policy: gives the probabilities.
        role: what it stands for in the report.
        softening: how it differs from the policy as it acts.
    """

    policy: Policy
    role: Role
    softening: str

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.policy.name


def list_evaluated_policies(
    policy: Policy, behavior: Probabilities, training_actions: np.ndarray, settings: EvaluationSettings
) -> list[EvaluatedPolicy]:
    """List the policy as it acts, its softened versions, the clone and the baselines that need no states."""
    return [
        *list_versions(policy, behavior, settings),
        EvaluatedPolicy(FunctionPolicy(CLONE, behavior), "baseline", "none"),
        *(EvaluatedPolicy(baseline, "baseline", "none") for baseline in baseline_policies(training_actions)),
    ]


def list_versions(
    policy: Policy, behavior: Probabilities, settings: EvaluationSettings
) -> list[EvaluatedPolicy]:
    """List the policy as it acts and those nearer to the clinicians: tilted by Q where it has values, else mixed."""
    acts, softened = "none", dict[str, Probabilities]()
    if isinstance(policy, QPolicy):
        acts = "greedy"
        for temperature in settings.tilt_temperatures:
            tilted = _tilted(policy.q_values, behavior, temperature)
            softened[f"clinicians x exp(Q / {temperature:g})"] = tilted
    else:
        for share in settings.clinician_shares:
            softened[f"{share:.0%} of decisions left to clinicians"] = _mixed(policy, behavior, share)
    return [
        EvaluatedPolicy(policy, "learned", acts),
        *(
            EvaluatedPolicy(FunctionPolicy(f"{policy.name}, {text}", probabilities), "softened", text)
            for text, probabilities in softened.items()
        ),
    ]


def _tilted(q_values: Probabilities, behavior: Probabilities, temperature: float) -> Probabilities:
    return lambda states: tilt_behavior(q_values(states), behavior(states), temperature)


def _mixed(policy: Policy, behavior: Probabilities, share: float) -> Probabilities:
    return lambda states: mix(policy.probabilities(states), behavior(states), share)
