"""What every learner is: settings, a loss of the network's outputs, and one optimizer step."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from sepsis_cql.training.checkpoint import tensors_of_model
from sepsis_cql.training.settings import TrainingSettings
from sepsis_cql.training.step.device_buffer import DeviceBuffer
from sepsis_cql.training.step.network import TrainableNetwork

Losses = dict[str, Tensor]  # (...) tensors on the device by the name they are logged under


class Learner:
    """One network, or several of one shape trained together, and how a batch changes them.

    A learner is a subclass in a file of its own with its `settings`, what it needs to `prepare`, its `losses` and one
    line in `registry.LEARNERS`. Every tensor may have the number of models as leading dimension, written (...).

    Attributes:
        settings: model of the learner's YAML.
        outputs: what its outputs are; see `SepsisCQLConfig`, as for `factored` and `hidden_units`.
        parts: networks of one shape that each model trains, clipped and stepped each for itself. `net` acts, `behavior`
            or `critic` goes into the package beside it, others are of the training only.
        of_each_model: settings that may differ between models trained together.
    """

    settings: ClassVar[type[TrainingSettings]]
    outputs: ClassVar[Literal["values", "logits", "supported_values", "actor_and_critic"]]
    factored: ClassVar[bool] = False
    hidden_units: ClassVar[Literal["rectified", "nearest"]] = "rectified"
    parts: ClassVar[tuple[str, ...]] = ("net",)
    of_each_model: ClassVar[frozenset[str]] = frozenset({"reward_variant", "learning_rate", "seed"})

    def __init__(
        self,
        network: TrainableNetwork,
        buffer: DeviceBuffer,
        rewards: Tensor,
        settings: Sequence[TrainingSettings],
    ) -> None:
        """Take over `network` and its initial weights.

        Args:
            network: of one model or of several.
            buffer: the training split.
            rewards: (..., n), with a leading dimension for several models.
            settings: of each model.
        """
        self.network = network
        self.buffer = buffer
        self.rewards = rewards
        self.prepare(settings)

    def prepare(self, settings: Sequence[Any]) -> None:
        """Take from the learner's own settings, one of each model, what its losses need; nothing by default."""

    def losses(self, outputs: Tensor, rows: Tensor) -> Losses:
        """Return the losses of a batch, `total_loss` among them, whose gradient the network descends.

        Args:
            outputs: (..., batch, 25) of the network for the states of `rows`; of several parts (..., parts, batch, 25).
            rows: (..., batch) int64 transitions.
        """
        raise NotImplementedError

    def losses_and_gradient(self, outputs: Tensor, rows: Tensor) -> tuple[Losses, Tensor]:
        """Return the losses and the gradient of `total_loss` with respect to the outputs, of their shape.

        By automatic differentiation of `losses`; a learner with a closed form overrides it.
        """
        if torch.compiler.is_compiling():  # this form is what it reads; uncompiled, the other takes less time
            gradient, losses = torch.func.grad(self._total_loss, has_aux=True)(outputs, rows)
            return losses, gradient
        with torch.enable_grad():
            variable = outputs.detach().requires_grad_()
            total_loss, losses = self._total_loss(variable, rows)
        (gradient,) = torch.autograd.grad(total_loss, variable)
        return {name: loss.detach() for name, loss in losses.items()}, gradient

    def update(self, rows: Tensor) -> Losses:
        """Make one optimizer step on (..., batch) int64 transitions; return the losses before it."""
        inputs = functional.embedding(rows, self.buffer.states)
        if (n := len(self.parts)) == 1:
            values = self.network.forward(inputs)
            losses, gradient = self.losses_and_gradient(values[-1], rows)
            return losses | {"gradient_norm": self.network.descend(values, gradient)}
        spread = inputs.unsqueeze(-3).expand(*rows.shape[:-1], n, -1, -1).flatten(0, -3)
        values = self.network.forward(spread)  # (models * parts, batch, 25)
        losses, gradient = self.losses_and_gradient(
            values[-1].view(*rows.shape[:-1], n, *values[-1].shape[-2:]), rows
        )
        norms = self.network.descend(values, gradient.flatten(0, -3))
        return losses | {"gradient_norm": torch.linalg.vector_norm(norms.view(*rows.shape[:-1], n), dim=-1)}

    def of_models(self, values: Sequence[float]) -> Tensor:
        """Return a setting of each model as a (...) tensor."""
        tensor = torch.tensor(values, dtype=self.rewards.dtype, device=self.rewards.device)
        return tensor.view(self.rewards.shape[:-1])

    def outputs_of(self, part: str, weights: Tensor, inputs: Tensor) -> Tensor:
        """Return the (..., batch, 25) outputs of one part with other weights, such as a target network's.

        Args:
            part: name of the network.
            weights: of the shape of `network.weights`.
            inputs: (..., batch, n_inputs).
        """
        own = weights.view(*self.rewards.shape[:-1], len(self.parts), -1)[..., self.parts.index(part), :]
        return self.network.outputs_with(own, inputs)

    def taken(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the (..., batch) outputs of the doses that were given."""
        return outputs.gather(-1, self.buffer.actions[rows].unsqueeze(-1)).squeeze(-1)

    def end_epoch(self, epoch: int) -> None:
        """Do what is due between epochs; nothing by default."""

    def model_state(self, index: int) -> dict[str, Tensor]:
        """Return weights and Adam's moments of one model, of its parts one after the other, and its step count."""
        return tensors_of_model(self.network.state_dict(), index, len(self.parts))

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors that a resumed run needs: (..., n) of each model, or () of all models together."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.network.load_state_dict(state)

    def _total_loss(self, outputs: Tensor, rows: Tensor) -> tuple[Tensor, Losses]:
        losses = self.losses(outputs, rows)
        return losses["total_loss"].sum(), losses  # models do not share outputs: each gets its own gradient
