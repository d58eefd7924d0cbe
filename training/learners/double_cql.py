"""Conservative Q-Learning on double Q-learning with the Huber error, as the library d3rlpy does it, for comparison."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.learners.targets import CopiedSettings, CopiedTarget


class DoubleCQLSettings(CopiedSettings):
    """Hyper-parameters of double-DQN CQL: `configs/double_cql.yaml`."""

    algorithm: Literal["double_cql"]
    alpha: float = Field(ge=0, allow_inf_nan=False)


class DoubleCQL(CopiedTarget):
    """Q-networks whose next dose is chosen by the network and valued by the target network (van Hasselt 2016)."""

    settings = DoubleCQLSettings
    outputs = "values"
    of_each_model = Learner.of_each_model | {"alpha"}

    def prepare(self, settings: Sequence[DoubleCQLSettings]) -> None:
        """Take alpha of each model, and compute the first target values."""
        super().prepare(settings)
        self._alpha = self.of_models([one.alpha for one in settings])
        self._ahead = self.rewards.new_empty(*self.rewards.shape, self.network.sizes[-1])
        self.target_changed()

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return TD loss, conservative loss, td + alpha * conservative, and the mean Q-value."""
        chosen = self.network.outputs_with(self.network.weights, self.next_states(rows)).argmax(dim=-1)
        ahead = self._ahead.flatten(-2).gather(-1, rows * self._ahead.shape[-1] + chosen)
        given = self.taken(outputs, rows)
        td_loss = functional.smooth_l1_loss(given, self.returns(rows, ahead), reduction="none").mean(dim=-1)
        conservative_loss = (outputs.logsumexp(dim=-1) - given).mean(dim=-1)
        return {
            "td_loss": td_loss,
            "conservative_loss": conservative_loss,
            "total_loss": td_loss + self._alpha * conservative_loss,
            "mean_q": outputs.mean(dim=(-2, -1)),
        }

    def target_changed(self) -> None:
        """Compute what the target network says of every dose at every next state."""
        for rows, values in self.target_values():
            self._ahead[..., rows, :] = values
