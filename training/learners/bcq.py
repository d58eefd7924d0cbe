"""Discrete batch-constrained Q-learning (Fujimoto et al. 2019): the best of the doses that clinicians may give."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from sepsis_cql.modeling_sepsis_cql import is_supported
from sepsis_cql.training.learners.base import Losses
from sepsis_cql.training.learners.behavior_cloning import cloning_loss
from sepsis_cql.training.learners.targets import FollowingSettings, FollowingTarget
from sepsis_cql.training.settings import TrainingSettings


class BCQSettings(FollowingSettings):
    """Hyper-parameters of discrete BCQ: `configs/bcq.yaml`."""

    algorithm: Literal["bcq"]
    smallest_share: float = Field(gt=0, le=1)
    logit_penalty: float = Field(ge=0)


class BatchConstrained(FollowingTarget):
    """A Q-network beside a clone of the clinicians; only doses that the clone gives often enough are ever chosen."""

    settings: ClassVar[type[TrainingSettings]] = BCQSettings
    outputs = "supported_values"
    parts = ("net", "behavior")

    def prepare(self, settings: Sequence[Any]) -> None:
        """Take which doses count as supported, and the penalty."""
        super().prepare(settings)
        self._share, self._penalty = settings[0].smallest_share, settings[0].logit_penalty

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return the Huber error of double Q-learning over supported doses, the clone's likelihood, and their sum."""
        q_values, logits = outputs.unbind(dim=-3)
        following = self.next_states(rows)
        supported = is_supported(self.outputs_of("behavior", self.network.weights, following), self._share)
        ranked = self.outputs_of("net", self.network.weights, following).masked_fill(~supported, -torch.inf)
        ahead = self.outputs_of("net", self.target_weights, following)
        ahead = ahead.gather(-1, ranked.argmax(dim=-1, keepdim=True)).squeeze(-1)
        error = functional.smooth_l1_loss(
            self.taken(q_values, rows), self.returns(rows, ahead), reduction="none"
        )
        cloning = cloning_loss(logits, self.buffer.actions[rows])
        losses = {"td_loss": error.mean(dim=-1), "cloning_loss": cloning}
        penalty = self._penalty * logits.square().mean(dim=(-2, -1))
        return losses | {"total_loss": losses["td_loss"] + cloning + penalty}
