"""Membership inference: how well losses and values of a network tell the patients it learned from from others."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

from sepsis_cql.evaluation.policies.load import policy_of_model
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.transitions import Transitions

LEAST = 1e-30  # probability of a dose that is never given
CALIBRATED = ", calibrated"


class Auroc(NamedTuple):
    """Area under the ROC curve of an attack, which is 0.5 where it tells nothing, and its standard error."""

    value: float
    standard_error: float

    def bound(self, level: float, side: int) -> float:
        """Return the lower (-1) or upper (1) end, in [0, 1], that holds the area with one-sided confidence `level`."""
        return float(np.clip(self.value + side * norm.ppf(level) * self.standard_error, 0.0, 1.0))


def score_patients(model: SepsisCQLModel, data: Transitions, gamma: float | None) -> dict[str, np.ndarray]:
    """Return what an attacker who holds the weights and a patient's record sees of each patient; larger is more likely.

    Args:
        model: under attack.
        data: steps of the patients, with the reward the model learned from.
        gamma: discount it learned with; None where its outputs are not values.

    Returns:
        By attack, (n_patients,) means over the steps of each patient, in ascending order of `subject_id`:
        "given dose" is the log share of the clinicians' dose in the softmax of the outputs (minus the conservative
        loss), "Bellman error" minus the squared error of one step, "return" minus the squared distance to the return
        that followed, "value" the value of the given dose (after Pan et al. 2019, "How You Act Tells a Lot").
    """
    outputs = _outputs(model, data.states)
    rows = np.arange(len(data))
    given = outputs[rows, data.actions]
    peak = outputs.max(axis=1)
    scores = {"given dose": given - peak - np.log(np.exp(outputs - peak[:, None]).sum(axis=1))}
    if gamma is not None:
        following = np.where(data.terminals, 0.0, _outputs(model, data.next_states).max(axis=1))
        scores["Bellman error"] = -((given - data.rewards - gamma * following) ** 2)
        scores["return"] = -((given - _returns(data, gamma)) ** 2)
        scores["value"] = given
    _, patient, n_steps = np.unique(data.subject_id, return_inverse=True, return_counts=True)
    return {name: np.bincount(patient, score) / n_steps for name, score in scores.items()}


def calibrate(scores: Mapping[str, np.ndarray], shadow: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the attacks as they are and, besides, less what a network shows that never saw the patient.

    Some patients fit every network well; the difference leaves what this network owes to having seen them (Watson et
    al. 2022, "On the Importance of Difficulty Calibration in Membership Inference Attacks").
    """
    return dict(scores) | {f"{name}{CALIBRATED}": score - shadow[name] for name, score in scores.items()}


def auroc(members: np.ndarray, others: np.ndarray) -> Auroc:
    """Return the area under the ROC curve with DeLong's standard error.

    Args:
        members: (n,) scores of patients trained on, n of at least 2.
        others: (m,) scores of held-out patients, m of at least 2.
    """
    n, m = len(members), len(others)
    ranks = rankdata(np.r_[members, others])
    above = (ranks[:n] - rankdata(members)) / m  # share of others below each member
    below = 1.0 - (ranks[n:] - rankdata(others)) / n  # share of members above each other
    variance = above.var(ddof=1) / n + below.var(ddof=1) / m
    return Auroc(float(above.mean()), float(np.sqrt(variance)))


def _outputs(model: SepsisCQLModel, states: np.ndarray) -> np.ndarray:
    """(n, 25) values, or log probabilities of a network without values, finite."""
    policy = policy_of_model(model)
    if policy.network is not None:
        found = policy.network(states)
    else:
        assert policy.function is not None
        found = np.log(np.maximum(policy.function(states), LEAST))
    return np.nan_to_num(found.astype(np.float64), neginf=np.log(LEAST))


def _returns(data: Transitions, gamma: float) -> np.ndarray:
    """(n,) discounted rewards from each step to the end of its stay."""
    found, following = np.empty(len(data)), 0.0
    for row in range(len(data) - 1, -1, -1):
        following = found[row] = data.rewards[row] + (0.0 if data.terminals[row] else gamma * following)
    return found
