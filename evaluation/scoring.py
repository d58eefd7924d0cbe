"""The validation score of a policy: what a sweep ranks by."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from operator import not_
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from sepsis_cql.configs.loading import load_settings
from sepsis_cql.evaluation.audit import audit_policy, weigh_policy
from sepsis_cql.evaluation.evaluate import REWARD_VARIANT
from sepsis_cql.evaluation.fqe_features import CPU
from sepsis_cql.evaluation.loading import policy_of_model
from sepsis_cql.evaluation.policies import QPolicy
from sepsis_cql.evaluation.published import published_metrics
from sepsis_cql.evaluation.scene import Scene, load_scene
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.variants import Variant, soften
from sepsis_cql.evaluation.verdict import check_gates, check_overlap
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel

N_RESAMPLES = 200
N_REFITS = 100
LOADING = Lock()  # of the threads that share a scorer, one reads the replay


def scoring_settings() -> EvaluationSettings:
    """The shipped evaluation with fewer refits than a report makes."""
    return load_settings(EvaluationSettings, Path("evaluation.yaml"), {"fqe_refits": N_REFITS})


@dataclass
class PolicyScorer:
    """Scores networks on the validation split of one replay; the behaviour policy is fitted once.

    Attributes:
        replay: directory written by `build`.
        device: of the training; evaluators are fitted there too if it computes in double precision.
        settings: of the evaluation, with fewer refits than a report makes.
    """

    replay: Path
    device: torch.device = CPU
    settings: EvaluationSettings = field(default_factory=scoring_settings)

    def __call__(self, model: SepsisCQLModel) -> dict[str, Any]:
        """What `score_policy` says of a network."""
        policy = policy_of_model(model).bind(self._scene.scored, self.replay)
        assert isinstance(policy, QPolicy)
        return score_policy(policy, self._scene, self.settings)

    @property
    def _scene(self) -> Scene:
        with LOADING:
            return self._loaded

    @cached_property
    def _loaded(self) -> Scene:
        device = CPU if self.device.type == "mps" else self.device
        torch.linalg.inv(torch.eye(1, device=device))  # threads must not be the first to load these routines
        return load_scene(self.replay, "validation", self.settings, REWARD_VARIANT, device)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "replay": self.replay,
            "device": self.device,
            "settings": self.settings,
        }  # workers read the replay themselves


def score_policy(policy: QPolicy, scene: Scene, settings: EvaluationSettings) -> dict[str, Any]:
    """Value, interval and overlap of a policy as the data can best judge it, and its published metrics.

    The greedy policy of Q-values rarely overlaps enough with the clinicians, and where it does not, its estimate
    says little. Therefore the softened versions are audited too, and that one speaks for the network whose gates
    hold and whose lower bound is highest.

    Args:
        policy: on states as the scene holds them.
        scene: the episodes to score on, and those to fit evaluators on.
        settings: of the evaluation.
    """
    versions = [Variant(policy, "learned", "greedy"), *soften(policy, scene.clinicians, settings)]
    overlaps = [_overlaps(version, scene, settings) for version in versions]
    scores = [_score_version(version, scene, settings) for version in compress(versions, overlaps)]
    if not any(score["passes_gates"] for score in scores):  # else a version without overlap cannot win
        others = compress(versions, map(not_, overlaps))
        scores += [_score_version(version, scene, settings) for version in others]
    published = published_metrics(
        scene.scored, policy.q_values(scene.scored.states), gamma=settings.gamma, n_resamples=N_RESAMPLES
    )
    return max(scores, key=lambda score: (score["passes_gates"], score["fqe_lower"])) | {
        "published_fqe": published.fqe_mean,
        "published_wis": published.wis_mean,
        "published_ess": published.ess,
        "n_episodes": scene.episodes.n_episodes,
    }


def _overlaps(version: Variant, scene: Scene, settings: EvaluationSettings) -> bool:
    probabilities, rho = weigh_policy(version.policy, scene)
    gates = check_overlap(probabilities, rho[:, -1], scene.behavior, settings)
    return all(gate.passed for gate in gates)


def _score_version(version: Variant, scene: Scene, settings: EvaluationSettings) -> dict[str, Any]:
    audit = audit_policy(version, scene, settings, N_RESAMPLES)
    failed = [gate.name for gate in check_gates(audit, scene.behavior, settings) if not gate.passed]
    fqe = audit.estimates[settings.gates.recommended]
    return {
        "softening": version.softening,
        "fqe": fqe.value,
        "fqe_lower": fqe.lower,
        "fqe_upper": fqe.upper,
        "ess": audit.summary.ess,
        "passes_gates": not failed,
        "gates": failed,
    }
