"""The versions of a policy that are evaluated: as it acts, softened towards clinicians, and the baselines."""

from collections.abc import Callable
from dataclasses import dataclass, field
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
        remake: the same version beside other probabilities of the clinicians; None where it does not rest on them.
    """

    policy: Policy
    role: Role
    softening: str
    remake: Callable[[Probabilities], Policy] | None = field(default=None, compare=False, repr=False)

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
        EvaluatedPolicy(
            FunctionPolicy(CLONE, behavior), "baseline", "none", lambda other: FunctionPolicy(CLONE, other)
        ),
        *(EvaluatedPolicy(baseline, "baseline", "none") for baseline in baseline_policies(training_actions)),
    ]


def list_versions(
    policy: Policy, behavior: Probabilities, settings: EvaluationSettings
) -> list[EvaluatedPolicy]:
    """List the policy as it acts and those nearer to the clinicians: tilted by Q where it has values, else mixed."""
    acts, soften = "none", dict[str, Callable[[Probabilities], Probabilities]]()
    if isinstance(policy, QPolicy):
        acts = "greedy"
        for temperature in settings.tilt_temperatures:
            soften[f"clinicians x exp(Q / {temperature:g})"] = _tilt(policy.q_values, temperature)
    else:
        for share in settings.clinician_shares:
            soften[f"{share:.0%} of decisions left to clinicians"] = _leave(policy, share)
    versions = [EvaluatedPolicy(policy, "learned", acts)]
    for text, version in soften.items():
        remake = _name(f"{policy.name}, {text}", version)
        versions.append(EvaluatedPolicy(remake(behavior), "softened", text, remake))
    return versions


def _name(
    name: str, version: Callable[[Probabilities], Probabilities]
) -> Callable[[Probabilities], FunctionPolicy]:
    return lambda behavior: FunctionPolicy(name, version(behavior))


def _tilt(q_values: Probabilities, temperature: float) -> Callable[[Probabilities], Probabilities]:
    return lambda behavior: lambda states: tilt_behavior(q_values(states), behavior(states), temperature)


def _leave(policy: Policy, share: float) -> Callable[[Probabilities], Probabilities]:
    return lambda behavior: lambda states: mix(policy.probabilities(states), behavior(states), share)
