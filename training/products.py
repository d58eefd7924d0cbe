"""The matrix products of a layer and of its gradient, each by the fastest kernel that computes it exactly.

For float32 matrices on a processor PyTorch calls MKL, which on an AMD EPYC multiplies at about half the rate
of oneDNN, as `benchmarks/training_step.py` measures. oneDNN ships inside PyTorch and is called by name here.
Tensors of several models (three dimensions), other devices and other precisions use PyTorch's own choice.
"""

import torch
from torch import Tensor

MANY_ROWS = 1024  # from here on oneDNN's own weight gradient is faster than a product of transposed matrices
_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(inputs: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
    """(..., batch, n_out) inputs times weight transposed plus bias, negative entries set to 0 where `relu`.

    Args:
        inputs: (..., batch, n_in).
        weight: (..., n_out, n_in).
        bias: (..., n_out).
        relu: whether the layer is followed by a rectifier.
    """
    if _suits_onednn(inputs, torch.float32, torch.bfloat16):
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "relu" if relu else "none", [], "")
    outputs = (inputs @ weight.mT).add_(bias.unsqueeze(-2))
    return outputs.relu_() if relu else outputs


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """(..., batch, n_in) from the (..., batch, n_out) gradient of a layer's outputs."""
    if _suits_onednn(gradient, torch.float32):
        return torch.ops.mkldnn._linear_pointwise(gradient, weight.mT, None, "none", [], "")
    return gradient @ weight


def weight_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    """(..., n_out, n_in) from the (..., batch, n_out) gradient of a layer's outputs and its inputs."""
    if not _suits_onednn(gradient, torch.float32):
        return gradient.mT @ inputs
    if len(gradient) >= MANY_ROWS:
        shape = gradient.new_empty(gradient.shape[1], inputs.shape[1])  # only its shape is read
        return torch.ops.aten.mkldnn_linear_backward_weights(
            gradient.to_mkldnn(), inputs.to_mkldnn(), shape, False
        )[0]
    if (
        inputs.shape[1] < gradient.shape[1]
    ):  # the first operand is copied to transpose it: let it be the narrow one
        return weight_gradient(inputs, gradient).mT
    return torch.ops.mkldnn._linear_pointwise(gradient.mT, inputs.mT, None, "none", [], "")


def _suits_onednn(matrix: Tensor, *types: torch.dtype) -> bool:
    return _HAS_ONEDNN and matrix.device.type == "cpu" and matrix.dtype in types and matrix.ndim == 2
