"""The matrix products of a layer and of its gradient.

PyTorch multiplies float32 matrices on a processor by MKL. oneDNN, which ships inside PyTorch, needs about half the
time on an AMD EPYC with AVX-512 and more time on one with AVX2, as `benchmarks/training_step.json` shows. Its products
are private operations of PyTorch: they are called only where a trial at import finds them in order, for several models
(three dimensions) one after the other. Other devices and compiled updates always take PyTorch's own products.
"""

import torch
from torch import Tensor

MANY_ROWS = 1024  # from here on oneDNN's own weight gradient is faster than a product of transposed matrices


def linear(inputs: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
    """Return the (..., batch, n_out) outputs of a layer, negative entries set to 0 where `relu`.

    Args:
        inputs: (..., batch, n_in).
        weight: (..., n_out, n_in).
        bias: (..., n_out).
        relu: whether the layer is followed by a rectifier.
    """
    if not _suits_onednn(inputs, torch.float32, torch.bfloat16):
        outputs = (inputs @ weight.mT).add_(bias.unsqueeze(-2))
        return outputs.relu_() if relu else outputs
    if inputs.ndim == 2:
        return _product(inputs, weight, bias, relu)
    return torch.stack([_product(*model, relu) for model in zip(inputs, weight, bias, strict=True)])


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the (..., batch, n_in) gradient of a layer's inputs from the (..., batch, n_out) one of its outputs."""
    if not _suits_onednn(gradient, torch.float32):
        return gradient @ weight
    if gradient.ndim == 2:
        return _product(gradient, weight.mT)
    return torch.stack([_product(*model) for model in zip(gradient, weight.mT, strict=True)])


def layer_gradient(gradient: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of a layer's weight (..., n_out, n_in) and bias (..., n_out), in float32 or wider.

    Args:
        gradient: (..., batch, n_out) of the layer's outputs.
        inputs: (..., batch, n_in) of the layer.
    """
    if not _suits_onednn(gradient, torch.float32):
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        return (gradient.mT @ inputs).to(dtype), gradient.sum(dim=-2, dtype=dtype)
    if gradient.ndim == 3:
        models = [layer_gradient(*model) for model in zip(gradient, inputs, strict=True)]
        return torch.stack([weight for weight, _ in models]), torch.stack([bias for _, bias in models])
    if len(gradient) >= MANY_ROWS:
        return _onednn_layer_gradient(gradient, inputs)
    return _product(gradient.mT.contiguous(), inputs.mT), gradient.sum(dim=0)


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(left, right, bias, "relu" if relu else "none", [], "")


def _onednn_layer_gradient(gradient: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    weight = gradient.new_empty(gradient.shape[1], inputs.shape[1])  # only its shape is read
    products = torch.ops.aten.mkldnn_linear_backward_weights(
        gradient.to_mkldnn(), inputs.to_mkldnn(), weight, True
    )
    return products[0].to_dense(), products[1].to_dense()


def _try_onednn() -> bool:
    """Return whether oneDNN's private products pay on this processor, exist in this PyTorch, and are right."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    left, right = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3) - 5
    try:
        found = [
            _product(left, right, right[:, 0].contiguous(), True),
            *_onednn_layer_gradient(left, right[:2]),
        ]
    except Exception:  # whatever another PyTorch makes of these calls, the plain products do
        return False
    expected = [(left @ right.mT + right[:, 0]).relu(), left.mT @ right[:2], left.sum(dim=0)]
    return all(map(torch.equal, found, expected))


_USES_ONEDNN = _try_onednn()


def _suits_onednn(matrix: Tensor, *types: torch.dtype) -> bool:
    if not _USES_ONEDNN or torch.compiler.is_compiling():
        return False
    return matrix.device.type == "cpu" and matrix.dtype in types and matrix.ndim in (2, 3)
