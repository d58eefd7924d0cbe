"""A Q-network, or several trained together, with a written-out gradient and weights in one flat tensor.

The network is three matrix products long, so its gradient is as short as its forward pass, and writing it out
spares a step the bookkeeping of automatic differentiation. Several models of one shape stack: each of their
tensors gets the number of models as first dimension, and model k behaves as it would alone.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sepsis_cql.training.products import input_gradient, linear, weight_gradient

Layers = list[tuple[Tensor, Tensor]]


class TrainableNetwork:
    """Linear/ReLU networks of one shape with Adam and gradient clipping.

    Attributes:
        weights: (..., n_parameters) all weights and biases in the order of `nn.Sequential.parameters()`; the
            leading dimension is the number of models, absent for one.
        inputs_dtype: what products are computed in: float32, or bfloat16 for reduced precision; weights and
            Adam's moments are float32 all the same.
    """

    def __init__(
        self,
        networks: Sequence[nn.Sequential],
        learning_rates: Sequence[float],
        *,
        grad_clip: float,
        device: torch.device,
        reduced_precision: bool = False,
    ) -> None:
        self.sizes = _layer_sizes(networks[0])
        flat = torch.stack([nn.utils.parameters_to_vector(net.parameters()).detach() for net in networks])
        flat = flat.to(device)
        self.weights = flat if len(networks) > 1 else flat[0]
        self.inputs_dtype = torch.bfloat16 if reduced_precision else flat.dtype
        self._rounded = self.weights.to(
            self.inputs_dtype
        )  # the weights themselves unless precision is reduced
        self._rounded_layers = self._layers(self._rounded)
        self._gradient = torch.zeros_like(self.weights)
        self._gradient_layers = self._layers(self._gradient)
        self._grad_clip = grad_clip
        self._rows = list(flat)  # (n_parameters,) of each model: what Adam changes in place
        for row, gradient in zip(self._rows, self._gradient.view(len(networks), -1), strict=True):
            row.grad = gradient
        self._optimizer = torch.optim.Adam(
            [{"params": [row], "lr": lr} for row, lr in zip(self._rows, learning_rates, strict=True)],
            fused=True,
            capturable=device.type == "cuda",
        )

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Inputs, activations of the hidden layers and (..., batch, n_actions) outputs, these in float32.

        Args:
            inputs: (..., batch, n_inputs) of type `inputs_dtype`.
        """
        values = run_layers(self._rounded_layers, inputs)
        values[-1] = values[-1].to(self.weights.dtype)
        return values

    def outputs_with(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """(..., batch, n_actions) outputs in float32 with other weights, such as a target network's."""
        return run_layers(self._layers(weights), inputs)[-1]

    def descend(self, values: list[Tensor], output_gradient: Tensor) -> Tensor:
        """One step of Adam along the clipped gradient; returns the gradient's (...) norm before clipping.

        Args:
            values: what `forward` returned.
            output_gradient: (..., batch, n_actions) gradient of the loss with respect to the outputs.
        """
        gradient = output_gradient.to(self.inputs_dtype)
        for depth in reversed(range(len(self._gradient_layers))):
            weight_slot, bias_slot = self._gradient_layers[depth]
            weight_slot.copy_(weight_gradient(gradient, values[depth]))
            bias_slot.copy_(gradient.sum(dim=-2))
            if depth:
                gradient = input_gradient(gradient, self._rounded_layers[depth][0])
                gradient = torch.ops.aten.threshold_backward(
                    gradient, values[depth], 0
                )  # where the unit was on
        norm = torch.linalg.vector_norm(self._gradient, dim=-1, keepdim=True)
        self._gradient.mul_((self._grad_clip / (norm + 1e-6)).clamp_(max=1.0))
        self._optimizer.step()
        self._round()
        return norm.squeeze(-1)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and Adam's moments, (..., n_parameters) each, and its step count."""
        moments = [self._optimizer.state[row] for row in self._rows]
        return (
            {"weights": self.weights}
            | {
                name: torch.stack([moment[name] for moment in moments]).view(self.weights.shape)
                for name in ("exp_avg", "exp_avg_sq")
            }
            | {"step": moments[0]["step"]}
        )

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.weights.copy_(state["weights"])
        self._round()
        for index, row in enumerate(self._rows):
            for name in ("exp_avg", "exp_avg_sq"):
                self._optimizer.state[row][name] = (
                    state[name].view(len(self._rows), -1)[index].to(row.device).clone()
                )
            self._optimizer.state[row]["step"] = state["step"].clone()

    def _round(self) -> None:
        if self.inputs_dtype != self.weights.dtype:
            self._rounded.copy_(self.weights)

    def _layers(self, flat: Tensor) -> Layers:
        """Weight (..., n_out, n_in) and bias (..., n_out) of each layer, as views of a flat tensor."""
        layers, start = [], 0
        for n_in, n_out in pairwise(self.sizes):
            middle, end = start + n_out * n_in, start + n_out * (n_in + 1)
            layers.append((flat[..., start:middle].unflatten(-1, (n_out, n_in)), flat[..., middle:end]))
            start = end
        return layers


def run_layers(layers: Layers, inputs: Tensor) -> list[Tensor]:
    """Inputs and the output of every layer, rectified in all but the last."""
    values = [inputs]
    for depth, (weight, bias) in enumerate(layers, start=1):
        values.append(linear(values[-1], weight, bias, relu=depth < len(layers)))
    return values


def _layer_sizes(network: nn.Sequential) -> list[int]:
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    return [linears[0].in_features, *(layer.out_features for layer in linears)]
