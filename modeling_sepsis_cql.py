"""The Q-network of the sepsis policy, with its normalizer inside.

Research artefact on retrospective data; never use it for patient care.
"""

import math
import operator
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_sepsis_cql import BINS, SepsisCQLConfig

LARGEST = torch.finfo(torch.float32).max
# Buffers of the normalizer and the value that makes each do nothing; finite, so that JSON can hold them.
IDENTITY = {"clip_low": -LARGEST, "clip_high": LARGEST, "fill": 0.0, "mean": 0.0, "scale": 1.0}
NEVER = -1e6  # a value that says a dose is not to be given; no return is anywhere near
BESIDE = {
    "supported_values": "behavior",
    "actor_and_critic": "critic",
}  # the second network, by `config.outputs`


@dataclass
class SepsisCQLOutput(ModelOutput):
    """What the network says of the 25 actions, under the name of what `config.outputs` says it is.

    Attributes:
        q_values: (batch, 25) discounted return expected after each action; None for logits.
        logits: (batch, 25) unnormalized log-probability of each action, of the policy or, beside supported values, of
            the clinicians; None for values.
    """

    q_values: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class DoseBin:
    """One drug's part of an action: doses above `low` up to and including `high`.

    Attributes:
        bin: 0 for no dose, 1 to 4 by the quartiles of the doses given.
        low: exclusive lower end in `unit`, 0 for bins 0 and 1; None if the edges are not known.
        high: inclusive upper end in `unit`, 0 for bin 0; None for the open end of bin 4 or unknown edges.
        unit: unit of `low` and `high`.
    """

    bin: int
    low: float | None
    high: float | None
    unit: str

    def __str__(self) -> str:
        if self.bin == 0:
            return "none"
        if self.low is None:
            return f"quartile {self.bin} of the doses given (edges not published)"
        if self.high is None:
            return f"> {self.low:g} {self.unit}"
        return f"> {self.low:g} to {self.high:g} {self.unit}"


@dataclass(frozen=True)
class Treatment:
    """An action id with the doses it stands for."""

    action: int
    vasopressor: DoseBin
    fluid: DoseBin


class Nearest(nn.Module):
    """The unit with the largest input is 1, the others are 0."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, n) indicators of the largest of (batch, n) inputs."""
        return nn.functional.one_hot(inputs.argmax(dim=-1), inputs.shape[-1]).to(inputs.dtype)


class SepsisCQLModel(PreTrainedModel):
    """Linear/ReLU network from a patient's 62 state values to the value of 25 treatments.

    `forward` takes clinical units with NaN for "never measured" and repeats the normalization of training.
    Where `config.normalization` is "identity" (published checkpoints, whose statistics were never released)
    it takes already normalized and imputed values and refuses NaN.
    """

    config_class = SepsisCQLConfig
    main_input_name = "states"

    def __init__(self, config: SepsisCQLConfig) -> None:
        super().__init__(config)
        n_states = len(config.state_names)
        for name, value in IDENTITY.items():
            self.register_buffer(name, torch.full((n_states,), value))
        self.net = new_layers(config)
        if config.outputs in BESIDE:
            setattr(self, BESIDE[config.outputs], new_layers(config))
        self.post_init()

    @property
    def networks(self) -> dict[str, nn.Sequential]:
        """Return the networks of the package by name: `net`, and the one beside it if there is one."""
        return {name: module for name, module in self.named_children() if isinstance(module, nn.Sequential)}

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.orthogonal_(module.weight, gain=1.0)
            init.zeros_(module.bias)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """Load a saved model in float32; unlike the library's default, incomplete or foreign weights are an error.

        A smaller `dtype` is not taken over, with a warning: rounding the statistics and the values to bfloat16 changes
        several of a hundred greedy actions, and the network is too small to gain from it.
        """
        for name in ("dtype", "torch_dtype"):
            if _is_reduced(kwargs.get(name)):
                warnings.warn(
                    f"{name}: found {kwargs[name]}, expected float32: reduced precision changes which treatments are "
                    "chosen. The model is loaded in float32; move it with `.to(dtype)` if you want to study that.",
                    stacklevel=2,
                )
                kwargs[name] = torch.float32
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        if problems := {name: sorted(map(str, keys)) for name, keys in info.items() if keys}:
            raise ValueError(
                f"Weights do not fit {cls.__name__}: {problems}. Expected exactly the saved parameters and "
                "buffers; download the package again."
            )
        return (model, info) if output_loading_info else model

    def forward(self, states: Tensor) -> SepsisCQLOutput:
        """Return the value of each treatment, its logit, or both, as `config.outputs` says.

        Args:
            states: (batch, 62) floating point, in the order of `config.state_names`.
        """
        inputs = self.normalize(states)
        found = {name: network(inputs) for name, network in self.networks.items()}
        if self.config.factored:  # 5 values of each drug, which add up to those of the doses
            found = {name: add_parts(outputs) for name, outputs in found.items()}
        names = ("q_values", "logits") if "values" in self.config.outputs else ("logits", "q_values")
        return SepsisCQLOutput(**dict(zip(names, found.values(), strict=False)))

    def preferences(self, outputs: SepsisCQLOutput) -> Tensor:
        """Return the (batch, 25) values or logits that the policy ranks doses by; minus infinity where it gives none.

        Args:
            outputs: of `forward`.
        """
        if "values" not in self.config.outputs:
            return outputs["logits"]
        values = outputs["q_values"]
        never = torch.zeros_like(values, dtype=torch.bool)
        if self.config.hidden_units == "nearest":
            never = values <= NEVER
        if self.config.outputs == "supported_values":
            never = ~is_supported(outputs["logits"], self.config.smallest_share)
        return values.masked_fill(never, -torch.inf)

    def normalize(self, states: Tensor) -> Tensor:
        """Return (batch, 62) network inputs: clipped, missing filled with the training median, z-scored.

        Args:
            states: (batch, 62) floating point, clinical units with NaN for missing.
        """
        self._check_states(states)
        states = states.to(self.mean.dtype)
        filled = torch.where(states.isnan(), self.fill, states.clamp(self.clip_low, self.clip_high))
        return (filled - self.mean) / self.scale

    def _check_states(self, states: Tensor) -> None:
        if not isinstance(states, Tensor) or not states.is_floating_point():
            found = getattr(states, "dtype", type(states).__name__)
            raise TypeError(f"states: found {found}, expected a floating point torch.Tensor.")
        n_states = len(self.config.state_names)
        if states.ndim != 2 or states.shape[1] != n_states:
            raise ValueError(f"states: found shape {tuple(states.shape)}, expected (batch, {n_states}).")
        if self.config.normalization == "identity" and bool(states.isnan().any()):
            raise ValueError(
                "states: found NaN, but this model takes normalized, imputed inputs (config.normalization is "
                "'identity'). Impute and z-score first, or use a model with its own normalizer."
            )

    def set_normalizer(self, statistics: dict[str, list]) -> None:
        """Take over the training split's statistics; `config.normalization` must say where they come from.

        Args:
            statistics: names, clip_low, clip_high, fill, mean and scale, each of length 62, clinical units.
        """
        if self.config.normalization == "identity":
            raise ValueError("config.normalization: found 'identity', expected the source of the statistics.")
        if sorted(statistics) != sorted([*IDENTITY, "names"]):
            raise ValueError(f"normalizer: found fields {sorted(statistics)}, expected names, {[*IDENTITY]}.")
        if statistics["names"] != self.config.state_names:
            raise ValueError("normalizer.names: differ from config.state_names. Rebuild the statistics.")
        values = {name: torch.tensor(statistics[name], dtype=torch.float32) for name in IDENTITY}
        for name, value in values.items():
            if value.shape != self.mean.shape or not value.isfinite().all():
                raise ValueError(f"normalizer.{name}: expected {len(self.mean)} finite numbers.")
        if (values["scale"] <= 0).any():
            raise ValueError("normalizer.scale: expected positive numbers.")
        if (values["clip_low"] > values["clip_high"]).any():
            raise ValueError("normalizer.clip_low: expected at most clip_high.")
        for name, value in values.items():
            getattr(self, name).copy_(value)

    @torch.no_grad()
    def greedy_action(self, states: Tensor) -> Tensor:
        """Return the (batch,) int64 id of the treatment with the largest value or probability."""
        return self.preferences(self(states)).argmax(dim=1)

    @torch.no_grad()
    def action_probabilities(self, states: Tensor, temperature: float = 1.0) -> Tensor:
        """Return (batch, 25) probabilities of the softened policy, softmax(preferences / temperature).

        Of a network that gives a policy's logits, temperature 1 is the policy itself. Doses that the policy never gives
        have probability 0 at every temperature.

        Args:
            states: (batch, 62), as for `forward`.
            temperature: positive; small values approach the greedy policy, large ones the uniform policy.
        """
        outputs = self.preferences(self(states))
        if not torch.finfo(outputs.dtype).tiny <= temperature < float("inf"):
            raise ValueError(f"temperature: found {temperature}, expected a positive finite number.")
        gaps = outputs - outputs.amax(dim=1, keepdim=True)  # subtracting first keeps them finite when divided
        return (gaps / temperature).softmax(dim=1)

    def decode_action(self, action: SupportsIndex) -> Treatment:
        """Return the doses that an action id stands for.

        Args:
            action: 0 to 24 = 5 * vasopressor bin + fluid bin.
        """
        index = operator.index(action)
        if not 0 <= index < self.config.n_actions:
            raise ValueError(f"action: found {index}, expected 0 to {self.config.n_actions - 1}.")
        vasopressor, fluid = divmod(index, BINS)
        return Treatment(
            action=index,
            vasopressor=_dose_bin(vasopressor, self.config.vasopressor_edges, self.config.vasopressor_unit),
            fluid=_dose_bin(fluid, self.config.fluid_edges, self.config.fluid_unit),
        )


def new_layers(config: SepsisCQLConfig) -> nn.Sequential:
    """Return the layers of one network with PyTorch's own initial weights."""
    sizes = [len(config.state_names), *config.hidden_sizes]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), Nearest() if config.hidden_units == "nearest" else nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 2 * BINS if config.factored else config.n_actions))


def is_supported(logits: Tensor, smallest_share: float) -> Tensor:
    """Return (..., 25) whether a dose's probability is at least this share of the likeliest dose's.

    Args:
        logits: (..., 25) of the clinicians.
        smallest_share: above 0 and at most 1.
    """
    return logits - logits.amax(dim=-1, keepdim=True) >= math.log(smallest_share)


def add_parts(parts: Tensor) -> Tensor:
    """Return (..., 25) sums of the (..., 10) parts: 5 of the vasopressor bins, then 5 of the fluid bins."""
    vasopressor, fluid = parts.unflatten(-1, (2, BINS)).unbind(dim=-2)
    return (vasopressor.unsqueeze(-1) + fluid.unsqueeze(-2)).flatten(-2)


def _is_reduced(dtype: Any) -> bool:
    """Whether a `dtype` argument names a floating point type of less than 32 bits."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    return isinstance(found, torch.dtype) and found.is_floating_point and found.itemsize < 4


def _dose_bin(index: int, edges: list[float] | None, unit: str) -> DoseBin:
    if index == 0:
        return DoseBin(0, 0.0, 0.0, unit)
    if edges is None:
        return DoseBin(index, None, None, unit)
    lows: list[float] = [0.0, *edges]
    highs: list[float | None] = [*edges, None]
    return DoseBin(index, lows[index - 1], highs[index - 1], unit)


SepsisCQLModel.register_for_auto_class("AutoModel")
