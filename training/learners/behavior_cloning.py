"""Behavior cloning: a network whose outputs are the logits of what clinicians do, as a comparator."""

from typing import Literal

from torch import Tensor

from sepsis_cql.training.learners.base import Learner, Losses
from sepsis_cql.training.settings import TrainingSettings


class BehaviorCloningSettings(TrainingSettings):
    """Hyper-parameters of behavior cloning: `configs/behavior_cloning.yaml`; the reward is not used."""

    algorithm: Literal["behavior_cloning"]


class BehaviorCloning(Learner):
    """Networks fitted by maximum likelihood to the doses that were given."""

    settings = BehaviorCloningSettings
    outputs = "logits"

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return the mean negative log-likelihood of the doses that were given, and how often the likeliest was."""
        given = self.buffer.actions[rows]
        hits = outputs.argmax(dim=-1) == given
        return {
            "total_loss": cloning_loss(outputs, given),
            "accuracy": hits.to(outputs.dtype).mean(dim=-1),
        }


def cloning_loss(logits: Tensor, actions: Tensor) -> Tensor:
    """Return the (...) mean negative log-likelihood of (..., batch) doses under (..., batch, 25) logits."""
    likelihood = logits.log_softmax(dim=-1).gather(-1, actions.unsqueeze(-1))
    return -likelihood.mean(dim=(-2, -1))
