"""One step of policy improvement (Brandfonbrener et al. 2021) from the clinicians' own values, to supported doses."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from sepsis_cql.training.learners.base import Losses
from sepsis_cql.training.learners.behavior_cloning import cloning_loss
from sepsis_cql.training.learners.targets import FollowingSettings, FollowingTarget


class OneStepSettings(FollowingSettings):
    """Hyper-parameters of one-step improvement: `configs/one_step.yaml`."""

    algorithm: Literal["one_step"]
    smallest_share: float = Field(gt=0, le=1)


class OneStep(FollowingTarget):
    """Values of going on as clinicians do, beside a clone of them that says which doses may be chosen."""

    settings = OneStepSettings
    outputs = "supported_values"
    parts = ("net", "behavior")

    def prepare(self, settings: Sequence[OneStepSettings]) -> None:
        """Look up the dose that followed each."""
        super().prepare(settings)
        self._next_actions = self.buffer.actions.roll(-1)  # transitions are in order of stay and step

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return the Bellman error with the dose that followed, the clone's likelihood, and their sum."""
        q_values, logits = outputs.unbind(dim=-3)
        ahead = self.outputs_of("net", self.target_weights, self.next_states(rows))
        ahead = ahead.gather(-1, self._next_actions[rows].unsqueeze(-1)).squeeze(-1)
        td_loss = (self.taken(q_values, rows) - self.returns(rows, ahead)).square().mean(dim=-1)
        cloning = cloning_loss(logits, self.buffer.actions[rows])
        return {"td_loss": td_loss, "cloning_loss": cloning, "total_loss": td_loss + cloning}
