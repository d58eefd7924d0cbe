"""Adam (Kingma and Ba 2015) for the weights of one model, or of several trained together."""

from dataclasses import dataclass

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Adam:
    """State of the optimizer; its tensors change in place.

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
        """Change the weights in place, by PyTorch's kernel on a processor or else by the formula.

        On a GPU that kernel leaves most of the chip idle at the size of one model and takes one learning rate a call;
        a compiler makes one pass of the formula and of what surrounds it.

        Args:
            weights: (..., n_parameters).
            gradient: (..., n_parameters).
            scale: (..., 1) what to multiply the gradient by.
        """
        self.step.add_(1)
        if weights.device.type == "cpu" and not torch.compiler.is_compiling():
            self.apply_kernel(weights, gradient * scale)
        else:
            self.apply_formula(weights, gradient, scale)

    def apply_formula(self, weights: Tensor, gradient: Tensor, scale: Tensor) -> None:
        """All models at once."""
        size = (self.learning_rates / (1 - BETA1**self.step)).unsqueeze(-1)
        root = (1 - BETA2**self.step).rsqrt().expand_as(size)
        scale, size, root = torch.stack([scale, size, root]).unbind()  # a compiler keeps them out of the pass
        gradient = gradient * scale
        self.first_moment.lerp_(gradient, 1 - BETA1)
        self.second_moment.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        weights.sub_(self.first_moment * size / (self.second_moment.sqrt() * root + EPSILON))

    def apply_kernel(self, weights: Tensor, gradient: Tensor) -> None:
        """Model after model."""
        tensors = (weights, gradient, self.first_moment, self.second_moment, self.learning_rates)
        for row, slope, first, second, rate in zip(*tensors, strict=True) if weights.ndim > 1 else [tensors]:
            torch._fused_adam_(
                [row],
                [slope],
                [first],
                [second],
                [],
                [self.step],
                lr=rate,
                beta1=BETA1,
                beta2=BETA2,
                eps=EPSILON,
                weight_decay=0.0,
                amsgrad=False,
                maximize=False,
            )
