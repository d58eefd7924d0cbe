"""The matrix products of a layer and of its gradient, each by the fastest kernel that computes it exactly.

For float32 matrices on a processor PyTorch calls MKL, which on an AMD EPYC multiplies at about half the rate
of oneDNN, as `benchmarks/training_step.py` measures. oneDNN ships inside PyTorch and is called by name here.
Tensors of several models (three dimensions), other devices and other precisions use PyTorch's own choice.
"""

import torch
from torch import Tensor

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(inputs: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
    """(..., batch, n_out) inputs times weight transposed plus bias, negative entries set to 0 where `relu`.

    Args:
        inputs: (..., batch, n_in).
        weight: (..., n_out, n_in).
        bias: (..., n_out).
        relu: whether the layer is followed by a rectifier.
    """
    if _suits_onednn(inputs):
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "relu" if relu else "none", [], "")
    outputs = (inputs @ weight.mT).add_(bias.unsqueeze(-2))
    return outputs.relu_() if relu else outputs


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """(..., batch, n_in) from the (..., batch, n_out) gradient of a layer's outputs."""
    if _suits_onednn(gradient):
        return torch.ops.mkldnn._linear_pointwise(gradient, weight.mT, None, "none", [], "")
    return gradient @ weight


def weight_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    """(..., n_out, n_in) from the (..., batch, n_out) gradient of a layer's outputs and its inputs."""
    if _suits_onednn(gradient):
        return torch.ops.mkldnn._linear_pointwise(gradient.mT, inputs.mT, None, "none", [], "")
    return gradient.mT @ inputs


def _suits_onednn(matrix: Tensor) -> bool:
    return _HAS_ONEDNN and matrix.device.type == "cpu" and matrix.dtype == torch.float32 and matrix.ndim == 2
