"""Implicit Q-learning for discrete doses (Kostrikov et al. 2022): no dose that nobody gave is ever valued."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.learners.targets import FollowingSettings, FollowingTarget


class IQLSettings(FollowingSettings):
    """Hyper-parameters of implicit Q-learning: `configs/iql.yaml`."""

    algorithm: Literal["iql"]
    expectile: float = Field(gt=0, lt=1)
    inverse_temperature: float = Field(ge=0)
    largest_weight: float = Field(gt=0)


class ImplicitQLearning(FollowingTarget):
    """Two critics, a state value between their mean and maximum, and an actor cloned with weights."""

    settings = IQLSettings
    outputs = "actor_and_critic"
    parts = ("net", "critic", "critic_2", "value")
    of_each_model = Learner.of_each_model | {"expectile", "inverse_temperature"}

    def prepare(self, settings: Sequence[IQLSettings]) -> None:
        """Take expectile and inverse temperature of each model."""
        super().prepare(settings)
        self._expectile = self.of_models([one.expectile for one in settings]).unsqueeze(-1)
        self._inverse = self.of_models([one.inverse_temperature for one in settings]).unsqueeze(-1)
        self._largest = settings[0].largest_weight

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return the losses of critics, state value and actor, and their sum: each moves its own network only."""
        actor, first, second, values = outputs.unbind(dim=-3)
        value = values[..., 0]  # the network's other outputs are not used
        ahead = self.outputs_of("value", self.network.weights, self.next_states(rows))[..., 0]
        targets = self.returns(rows, ahead)
        errors = [
            (self.taken(q_values, rows) - targets).square().mean(dim=-1) for q_values in (first, second)
        ]
        critic_loss = errors[0] + errors[1]
        states = functional.embedding(rows, self.buffer.states).to(self.target_weights.dtype)
        held = torch.minimum(
            *(
                self.taken(self.outputs_of(part, self.target_weights, states), rows)
                for part in ("critic", "critic_2")
            )
        )
        advantage = held - value
        weight = torch.where(advantage < 0, 1 - self._expectile, self._expectile)
        value_loss = (weight * advantage.square()).mean(dim=-1)
        trust = (self._inverse * advantage.detach()).exp().clamp(max=self._largest)
        actor_loss = -(trust * self.taken(actor.log_softmax(dim=-1), rows)).mean(dim=-1)
        losses = {"critic_loss": critic_loss, "value_loss": value_loss, "actor_loss": actor_loss}
        return losses | {"total_loss": critic_loss + value_loss + actor_loss}
