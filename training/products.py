"""The matrix products of a layer and of its gradient, each by the fastest kernel that computes it exactly.

For float32 matrices on a processor PyTorch calls MKL, which on an AMD EPYC multiplies at about half the rate
of oneDNN, as `benchmarks/training_step.py` measures. oneDNN ships inside PyTorch and is called by name here.
Tensors of several models (three dimensions), other devices and other precisions use PyTorch's own choice.
"""

import torch
from torch import Tensor, library

MANY_ROWS = 1024  # from here on oneDNN's own weight gradient is faster than a product of transposed matrices
_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")

# PyTorch's compiler takes oneDNN's products for layers with constant weights; operations of our own it does not touch.
library.define("sepsis_cql::product", "(Tensor left, Tensor right, Tensor? bias, bool relu) -> Tensor")
library.define("sepsis_cql::layer_gradient", "(Tensor gradient, Tensor inputs) -> (Tensor, Tensor)")
PRODUCT = torch.ops.sepsis_cql.product.default


def linear(inputs: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
    """(..., batch, n_out) inputs times weight transposed plus bias, negative entries set to 0 where `relu`.

    Args:
        inputs: (..., batch, n_in).
        weight: (..., n_out, n_in).
        bias: (..., n_out).
        relu: whether the layer is followed by a rectifier.
    """
    if _suits_onednn(inputs, torch.float32, torch.bfloat16):
        return PRODUCT(inputs, weight, bias, relu)
    outputs = (inputs @ weight.mT).add_(bias.unsqueeze(-2))
    return outputs.relu_() if relu else outputs


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """(..., batch, n_in) from the (..., batch, n_out) gradient of a layer's outputs."""
    if _suits_onednn(gradient, torch.float32):
        return PRODUCT(gradient, weight.mT, None, False)
    return gradient @ weight


def layer_gradient(gradient: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a layer's weight (..., n_out, n_in) and bias (..., n_out), in float32 or wider.

    Args:
        gradient: (..., batch, n_out) of the layer's outputs.
        inputs: (..., batch, n_in) of the layer.
    """
    if not _suits_onednn(gradient, torch.float32):
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        return (gradient.mT @ inputs).to(dtype), gradient.sum(dim=-2, dtype=dtype)
    if len(gradient) >= MANY_ROWS:
        return torch.ops.sepsis_cql.layer_gradient.default(gradient, inputs)
    transposed = gradient.mT.contiguous()
    return PRODUCT(transposed, inputs.mT, None, False), gradient.sum(dim=0)


@library.impl("sepsis_cql::product", "cpu")
def _product(left: Tensor, right: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(left, right, bias, "relu" if relu else "none", [], "")


@library.register_fake("sepsis_cql::product")
def _product_shape(left: Tensor, right: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return left.new_empty(left.shape[0], right.shape[0])


@library.impl("sepsis_cql::layer_gradient", "cpu")
def _layer_gradient(gradient: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    weight = gradient.new_empty(gradient.shape[1], inputs.shape[1])  # only its shape is read
    products = torch.ops.aten.mkldnn_linear_backward_weights(
        gradient.to_mkldnn(), inputs.to_mkldnn(), weight, True
    )
    return products[0].to_dense(), products[1].to_dense()


@library.register_fake("sepsis_cql::layer_gradient")
def _layer_gradient_shape(gradient: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    n_out, n_in = gradient.shape[1], inputs.shape[1]
    return gradient.new_empty(n_out, n_in), gradient.new_empty(n_out)


def _suits_onednn(matrix: Tensor, *types: torch.dtype) -> bool:
    return _HAS_ONEDNN and matrix.device.type == "cpu" and matrix.dtype in types and matrix.ndim == 2
