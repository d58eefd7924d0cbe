"""Adam (Kingma and Ba 2015): weights and moments of one model, or of several, changed in place."""

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def adam_step(
    weights: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    learning_rates: Tensor,
    scale: Tensor,
) -> None:
    """One update, by PyTorch's kernel for processors or, compiled or on a GPU, by the formula.

    On a GPU that kernel leaves most of the chip idle at the size of one model and takes one learning rate a call; a
    compiler makes one pass of the formula and what surrounds it.

    Args:
        weights: (..., n_parameters), changed.
        gradient: (..., n_parameters).
        first_moment: (..., n_parameters), changed.
        second_moment: (..., n_parameters), changed.
        step: () number of updates, this one included, of the type of the weights.
        learning_rates: (...), one for each model.
        scale: (..., 1) what to multiply the gradient by.
    """
    update = adam_formula
    if weights.device.type == "cpu" and not torch.compiler.is_compiling():
        update = adam_kernel
    update(weights, gradient, first_moment, second_moment, step, learning_rates, scale)


def adam_formula(
    weights: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    learning_rates: Tensor,
    scale: Tensor,
) -> None:
    """What `adam_step` does, for all models at once."""
    size = (learning_rates / (1 - BETA1**step)).unsqueeze(-1)
    root = (1 - BETA2**step).rsqrt().expand_as(size)
    scale, size, root = torch.stack([scale, size, root]).unbind()  # a compiler keeps them out of the pass
    gradient = gradient * scale
    first_moment.lerp_(gradient, 1 - BETA1)
    second_moment.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    weights.sub_(first_moment * size / (second_moment.sqrt() * root + EPSILON))


def adam_kernel(
    weights: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    learning_rates: Tensor,
    scale: Tensor,
) -> None:
    """What `adam_step` does, in one pass over the tensors of each model."""
    tensors = (weights, gradient * scale, first_moment, second_moment, learning_rates)
    for row, slope, first, second, rate in zip(*tensors, strict=True) if weights.ndim > 1 else [tensors]:
        torch._fused_adam_(
            [row],
            [slope],
            [first],
            [second],
            [],
            [step],
            lr=rate,
            beta1=BETA1,
            beta2=BETA2,
            eps=EPSILON,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )
