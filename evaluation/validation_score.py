"""The validation score of a policy: what a sweep ranks by."""

from dataclasses import dataclass
from functools import cached_property, partial
from itertools import compress
from operator import not_
from threading import Lock
from typing import Any

import torch

from sepsis_cql.evaluation.data import EvaluationData, load_evaluation_data
from sepsis_cql.evaluation.estimate import estimate_policy, weigh_policy
from sepsis_cql.evaluation.estimators.fqe_basis import CPU
from sepsis_cql.evaluation.original_protocol import original_metrics
from sepsis_cql.evaluation.policies.base import Policy, QPolicy
from sepsis_cql.evaluation.policies.load import policy_of_model
from sepsis_cql.evaluation.policies.softened import EvaluatedPolicy, list_versions
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.verdict import check_estimates, check_overlap
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.directory import Replay
from sepsis_cql.training.records import Score

LOADING = Lock()  # of the threads that share a scorer, one reads the replay


@dataclass
class PolicyScorer:
    """Scores networks on the validation split of one replay; the behavior policy is fitted once.

    Attributes:
        replay: with a training and a validation split.
        settings: of the evaluation.
        device: of the training; evaluators are fitted there too if it computes in double precision.
    """

    replay: Replay
    settings: EvaluationSettings
    device: torch.device = CPU

    def __call__(self, model: SepsisCQLModel) -> Score:
        """What `score_policy` says of a network."""
        return score_policy(self.bind(model), self.data, self.settings)

    def bind(self, model: SepsisCQLModel) -> Policy:
        """Return a network as a policy on the states of this replay."""
        return policy_of_model(model).bind(self.data.scored, self.replay)

    @property
    def data(self) -> EvaluationData:
        """The validation split, and what evaluators are fitted on."""
        with LOADING:
            return self._loaded

    @cached_property
    def _loaded(self) -> EvaluationData:
        device = CPU if self.device.type == "mps" else self.device
        torch.linalg.inv(torch.eye(1, device=device))  # threads must not be the first to load these routines
        return load_evaluation_data(self.replay, "validation", self.settings, device)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "replay": self.replay,
            "device": self.device,
            "settings": self.settings,
        }  # workers read the replay themselves


def score_policy(policy: Policy, data: EvaluationData, settings: EvaluationSettings) -> Score:
    """Score a policy as the data can best judge it, and by the original metrics where it has values.

    The greedy policy of Q-values rarely overlaps enough with the clinicians, and where it does not, its estimate
    says little. Therefore the softened versions are estimated too, and that one speaks for the network whose gates
    hold and whose lower bound is highest.

    Args:
        policy: on states as the data holds them.
        data: the episodes to score on, and those to fit evaluators on.
        settings: of the evaluation.
    """
    versions = list_versions(policy, data.clinicians, settings)
    overlaps = [_overlaps(version, data, settings) for version in versions]
    score = partial(_score_version, data=data, settings=settings)
    scores = data.of_each(score, compress(versions, overlaps))
    if not any(score.passes_gates for score in scores):  # else a version without overlap cannot win
        others = compress(versions, map(not_, overlaps))
        scores += data.of_each(score, others)
    best = max(scores, key=lambda score: score.rank("fqe"))
    if not isinstance(policy, QPolicy):
        return best
    original = original_metrics(
        data.scored,
        policy.q_values(data.scored.states),
        gamma=settings.gamma,
        n_resamples=settings.validation.resamples,
    )
    return best.model_copy(
        update={
            "published_fqe": original.fqe_mean,
            "published_wis": original.wis_mean,
            "published_ess": original.ess,
        }
    )


def _overlaps(version: EvaluatedPolicy, data: EvaluationData, settings: EvaluationSettings) -> bool:
    probabilities, rho = weigh_policy(version.policy, data)
    gates = check_overlap(probabilities, rho[:, -1], data.behavior, settings)
    return all(gate.passed for gate in gates)


def _score_version(version: EvaluatedPolicy, data: EvaluationData, settings: EvaluationSettings) -> Score:
    fqe = settings.fqe.model_copy(update={"refits": settings.validation.refits})
    quick = settings.model_copy(update={"fqe": fqe})
    found = estimate_policy(version, data, quick, settings.validation.resamples)
    failed = [gate.name for gate in check_estimates(found, data.behavior, settings) if not gate.passed]
    value = found.estimates[settings.gates.recommended]
    assert value.value is not None and value.lower is not None and value.upper is not None
    return Score(
        softening=version.softening,
        fqe=value.value,
        fqe_lower=value.lower,
        fqe_upper=value.upper,
        ess=found.summary.ess,
        passes_gates=not failed,
        gates=failed,
        published_fqe=None,
        published_wis=None,
        published_ess=None,
        n_episodes=data.episodes.n_episodes,
    )
