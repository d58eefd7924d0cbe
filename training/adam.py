"""Adam (Kingma and Ba 2015): weights and moments of one model, or of several, changed in one pass.

It is an operation of its own, which a compiler calls as it is. Arguments: weights, gradient and both moments,
(..., n_parameters) each; the number of updates, this one included, as a () tensor of their type; and the (...)
learning rates, one for each model.
"""

import torch
from torch import Tensor, library

library.define(
    "sepsis_cql::adam",
    "(Tensor(a!) weights, Tensor gradient, Tensor(b!) first_moment, Tensor(c!) second_moment, Tensor step, "
    "Tensor learning_rates) -> ()",
)
adam_step = torch.ops.sepsis_cql.adam.default


@library.impl("sepsis_cql::adam", ("cpu", "cuda", "mps"))
def _adam_step(
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
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )


@library.register_fake("sepsis_cql::adam")
def _adam_shapes(*tensors: Tensor) -> None:
    """Nothing comes out."""
