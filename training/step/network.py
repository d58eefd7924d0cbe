"""A Q-network, or several trained together, with a written-out gradient and weights in one flat tensor.

The network is three matrix products long, so its gradient is as short as its forward pass, and writing it out
spares a step the bookkeeping of automatic differentiation. Several models of one shape train together: each of
their tensors gets the number of models as first dimension, and model k behaves as it would alone.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sepsis_cql.training.step.adam import Adam
from sepsis_cql.training.step.kernels import input_gradient, layer_gradient, linear

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
        self._rounded = self.weights.to(self.inputs_dtype)  # themselves unless precision is reduced
        self._grad_clip = grad_clip
        rates = torch.tensor(learning_rates, dtype=flat.dtype, device=device)
        self._adam = Adam(
            learning_rates=rates if len(networks) > 1 else rates[0],
            first_moment=torch.zeros_like(self.weights),
            second_moment=torch.zeros_like(self.weights),
            step=torch.zeros((), dtype=flat.dtype, device=device),
        )

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Return inputs, activations of the hidden layers and (..., batch, n_actions) outputs, these in float32.

        Args:
            inputs: (..., batch, n_inputs) of type `inputs_dtype`.
        """
        values = run_layers(self._layers(self._rounded), inputs)
        values[-1] = values[-1].to(self.weights.dtype)
        return values

    def outputs_with(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Return the (..., batch, n_actions) outputs in float32 with other weights, such as a target network's."""
        return run_layers(self._layers(weights), inputs)[-1]

    def descend(self, values: list[Tensor], output_gradient: Tensor) -> Tensor:
        """Take one step of Adam along the clipped gradient; return the gradient's (...) norm before clipping.

        Args:
            values: what `forward` returned.
            output_gradient: (..., batch, n_actions) gradient of the loss with respect to the outputs.
        """
        gradient = self._flat_gradient(values, output_gradient.to(self.inputs_dtype))
        norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        self._adam.update(self.weights, gradient, scale=(self._grad_clip / (norm + 1e-6)).clamp(max=1.0))
        if self._rounded is not self.weights:
            self._rounded.copy_(self.weights)
        return norm.squeeze(-1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return weights and Adam's moments, (..., n_parameters) each, and its step count."""
        return {
            "weights": self.weights,
            "exp_avg": self._adam.first_moment,
            "exp_avg_sq": self._adam.second_moment,
            "step": self._adam.step,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])
        self._rounded.copy_(self.weights)

    def _flat_gradient(self, values: list[Tensor], gradient: Tensor) -> Tensor:
        """Return the (..., n_parameters) gradient from the (..., batch, n_actions) one with respect to the outputs."""
        layers, pieces = self._layers(self._rounded), []
        for depth in reversed(range(len(layers))):
            weight, bias = layer_gradient(gradient, values[depth])
            pieces += [bias, weight.flatten(-2)]
            if depth:
                gradient = input_gradient(gradient, layers[depth][0])
                # passes where the unit was on
                gradient = torch.ops.aten.threshold_backward(gradient, values[depth], 0)
        return torch.cat(pieces[::-1], dim=-1)

    def _layers(self, flat: Tensor) -> Layers:
        """Return weight (..., n_out, n_in) and bias (..., n_out) of each layer, as views of a flat tensor."""
        layers, start = [], 0
        for n_in, n_out in pairwise(self.sizes):
            middle, end = start + n_out * n_in, start + n_out * (n_in + 1)
            layers.append((flat[..., start:middle].unflatten(-1, (n_out, n_in)), flat[..., middle:end]))
            start = end
        return layers


def run_layers(layers: Layers, inputs: Tensor) -> list[Tensor]:
    """Return inputs and the output of every layer, rectified in all but the last."""
    values = [inputs]
    for depth, (weight, bias) in enumerate(layers, start=1):
        values.append(linear(values[-1], weight, bias, relu=depth < len(layers)))
    return values


def _layer_sizes(network: nn.Sequential) -> list[int]:
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    return [linears[0].in_features, *(layer.out_features for layer in linears)]
