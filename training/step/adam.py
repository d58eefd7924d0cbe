"""Adam (Kingma and Ba 2015) for the weights of one model, or of several trained together."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Adam:
    """The state of the optimizer; its tensors change in place.

    Attributes:
        learning_rates: (...), one for each model.
        first_moment: (..., n_parameters).
        second_moment: (..., n_parameters).
        step: () updates so far, of the type of the weights.
    """

    learning_rates: Tensor
    first_moment: Tensor
    second_moment: Tensor
    step: Tensor

    def update(self, weights: Tensor, gradient: Tensor, scale: Tensor) -> None:
        """Change the weights of all models in place by one step along the scaled gradient.

        Args:
            weights: (..., n_parameters).
            gradient: (..., n_parameters).
            scale: (..., 1) what to multiply the gradient by.
        """
        self.step.add_(1)
        size = (self.learning_rates / _one_minus_power(BETA1, self.step)).unsqueeze(-1)
        root = _one_minus_power(BETA2, self.step).rsqrt().expand_as(size)
        scale, size, root = torch.stack(
            [scale, size, root]
        ).unbind()  # else compiled code raises powers per weight
        gradient = gradient * scale
        self.first_moment.lerp_(gradient, 1 - BETA1)
        self.second_moment.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        deviation = self.second_moment.sqrt().mul_(root).add_(EPSILON)
        weights.addcdiv_(self.first_moment * size, deviation, value=-1.0)


def _one_minus_power(beta: float, step: Tensor) -> Tensor:
    """Return 1 - beta ** step with all digits; the plain difference loses up to three of seven for beta 0.999."""
    return -torch.expm1(step * math.log(beta))
