"""Adam (Kingma and Ba 2015): weights and moments of one model, or of several, changed in place.

On a processor PyTorch's own kernel makes one pass over the tensors of a model; it is wrapped as an operation, which a
compiler calls as it is. On a GPU that kernel leaves most of the chip idle at the size of one model and takes one
learning rate a call, so there the formula is written out for all models at once.
"""

import torch
from torch import Tensor, library

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

library.define(
    "sepsis_cql::adam",
    "(Tensor(a!) weights, Tensor gradient, Tensor(b!) first_moment, Tensor(c!) second_moment, Tensor step, "
    "Tensor learning_rates) -> ()",
)


def adam_step(
    weights: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    learning_rates: Tensor,
) -> None:
    """One update.

    Args:
        weights: (..., n_parameters), changed.
        gradient: (..., n_parameters).
        first_moment: (..., n_parameters), changed.
        second_moment: (..., n_parameters), changed.
        step: () number of updates, this one included, of the type of the weights.
        learning_rates: (...), one for each model.
    """
    tensors = (weights, gradient, first_moment, second_moment, step, learning_rates)
    if weights.device.type == "cpu":
        torch.ops.sepsis_cql.adam.default(*tensors)
    else:
        adam_formula(*tensors)


def adam_formula(
    weights: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    learning_rates: Tensor,
) -> None:
    """What `adam_step` does, in tensor arithmetic."""
    first_moment.lerp_(gradient, 1 - BETA1)
    second_moment.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    spread = (second_moment / (1 - BETA2**step)).sqrt_().add_(EPSILON)
    sizes = learning_rates / (1 - BETA1**step)
    weights.sub_(first_moment * sizes.unsqueeze(-1) / spread)


@library.impl("sepsis_cql::adam", "cpu")
def _adam_fused(
    weights: Tensor,
    gradient: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    step: Tensor,
    learning_rates: Tensor,
) -> None:
    tensors = (weights, gradient, first_moment, second_moment, learning_rates)
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


@library.register_fake("sepsis_cql::adam")
def _adam_shapes(*tensors: Tensor) -> None:
    """Nothing comes out."""
