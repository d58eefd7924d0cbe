"""Policies that d3rlpy saved as `.d3`: read without unpickling, and without d3rlpy."""

import math
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor
from torch.nn.functional import linear, log_softmax

from sepsis_cql.checkpoints.hub_package import check_weights, read_small_file
from sepsis_cql.checkpoints.original_pt import load_archive
from sepsis_cql.common.errors import CheckpointError
from sepsis_cql.common.storage import parse_finite
from sepsis_cql.common.strict import Record, explain

# All that `save` of d3rlpy 2 writes around weights and configuration: one dictionary from texts to texts and bytes.
FRAME = {"PROTO", "FRAME", "EMPTY_DICT", "MEMOIZE", "MARK", "SETITEMS", "STOP"}
VALUES = {"SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
CONTENTS = {"torch": bytes, "config": str, "version": str}
Q_FUNCTION, IMITATOR = "q_funcs", "imitator"
WIDEST = 4096  # hidden units


class _NoScaler(Record):
    """Inputs and rewards as they come."""

    type: Literal["none"]
    params: dict[str, Any] = Field(max_length=0)


class _EncoderParams(Record):
    hidden_units: list[int] = Field(
        default=[256, 256], min_length=1, max_length=8
    )  # of the encoder `default`
    activation: Literal["relu"] = "relu"
    use_batch_norm: Literal[False] = False
    use_layer_norm: Literal[False] = False
    dropout_rate: float | None = None  # in training only
    exclude_last_activation: Literal[False] = False
    last_activation: None = None


class _Encoder(Record):
    type: Literal["default", "vector"]
    params: _EncoderParams


class _MeanQ(Record):
    type: Literal["mean"]
    params: dict[Literal["share_encoder"], bool]


class _Params(Record):
    """Fields of the five learners; those that only say how they were trained may be anything."""

    encoder_factory: _Encoder
    observation_scaler: _NoScaler
    action_scaler: _NoScaler
    reward_scaler: _NoScaler
    q_func_factory: _MeanQ | None = None
    n_critics: int = Field(default=1, ge=1, le=16)
    action_flexibility: float | None = Field(default=None, gt=0, lt=1)
    batch_size: Any
    gamma: Any
    compile_graph: Any
    learning_rate: Any
    optim_factory: Any
    target_update_interval: Any = None
    alpha: Any = None
    beta: Any = None
    share_encoder: Any = None


class _Learner(Record):
    type: Literal["discrete_cql", "dqn", "double_dqn", "discrete_bcq", "discrete_bc"]
    params: _Params


class _Saved(Record):
    """The configuration in a `.d3` file, as far as outputs depend on it."""

    observation_shape: list[int] = Field(min_length=1, max_length=1)
    action_size: int = Field(ge=2, le=1000)
    config: _Learner


@dataclass(frozen=True)
class D3Policy:
    """A discrete policy of d3rlpy.

    Attributes:
        kind: d3rlpy's name of the learner.
        n_states: inputs, normalized.
        critics: layers (weight, bias) of each critic; empty for a clone.
        imitator: layers of the clone; empty where there is none.
        flexibility: share of the likeliest dose's probability below which a dose is never given; None without one.
    """

    kind: str
    n_states: int
    critics: tuple[tuple[tuple[Tensor, Tensor], ...], ...]
    imitator: tuple[tuple[Tensor, Tensor], ...]
    flexibility: float | None

    @torch.no_grad()
    def outputs(self, states: Tensor) -> Tensor:
        """Return (n, actions) values, minus infinity for a dose that is never given, or logits of a clone."""
        if not self.critics:
            return _forward(self.imitator, states)
        values = torch.stack([_forward(critic, states) for critic in self.critics]).mean(dim=0)
        if self.flexibility is None:
            return values
        shares = log_softmax(_forward(self.imitator, states), dim=1)
        is_given = shares - shares.max(dim=1, keepdim=True).values > math.log(self.flexibility)
        return values.masked_fill(~is_given, -torch.inf)


def read_d3(file: Path) -> D3Policy:
    """Read a policy saved by d3rlpy 2; nothing in the file is executed.

    Raises:
        CheckpointError: it holds anything but texts, a known configuration and its weights.
    """
    parts = _read_parts(read_small_file(file), file)
    saved = _read_config(parts["config"], file)
    found = load_archive(parts["torch"], file)
    params, is_clone = saved.config.params, saved.config.type == "discrete_bc"
    widths = [saved.observation_shape[0], *params.encoder_factory.params.hidden_units, saved.action_size]
    has_imitator = is_clone or saved.config.type == "discrete_bcq"
    n_critics = 0 if is_clone else params.n_critics
    if has_imitator and not is_clone and params.action_flexibility is None:
        raise CheckpointError(
            f"{file}: config.params.action_flexibility: not found, expected a number in (0, 1)."
        )
    return D3Policy(
        kind=saved.config.type,
        n_states=widths[0],
        critics=_layers(found, Q_FUNCTION, [f"{index}." for index in range(n_critics)], widths, file),
        imitator=_layers(found, IMITATOR, [""], widths, file)[0] if has_imitator else (),
        flexibility=params.action_flexibility if has_imitator and not is_clone else None,
    )


def _read_parts(content: bytes, file: Path) -> dict[str, Any]:
    """The texts and bytes of the outer pickle, by its opcodes; any other opcode is refused."""
    values, end = list[Any](), -1
    try:
        for opcode, value, position in pickletools.genops(content):
            if opcode.name not in FRAME | VALUES:
                raise CheckpointError(
                    f"{file}: holds the pickle opcode {opcode.name} at byte {position}, expected texts and weights "
                    "only. It may be malicious; do not open it with d3rlpy or pickle."
                )
            values += [value] if opcode.name in VALUES else []
            end = position or 0
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f"{file}: not an intact `.d3` file. Expected what d3rlpy's `save` wrote."
        ) from error
    parts = dict(zip(values[::2], values[1::2], strict=False))
    is_whole = len(values) == 2 * len(CONTENTS) and end == len(content) - 1
    if not is_whole or {name: type(value) for name, value in parts.items()} != CONTENTS:
        raise CheckpointError(f"{file}: expected {sorted(CONTENTS)} alone, as d3rlpy's `save` writes them.")
    return parts


def _read_config(text: str, file: Path) -> _Saved:
    try:
        values = parse_finite(text)
        return _Saved.model_validate(values)
    except ValidationError as error:
        raise CheckpointError(
            f"{file}: {explain(error)}. Expected DQN, DoubleDQN, DiscreteCQL, DiscreteBCQ or DiscreteBC with mean "
            "Q-functions, a rectified network and no scalers; give another policy as module:function."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: its configuration is not JSON.") from error


def _layers(
    found: Any, name: str, prefixes: list[str], widths: list[int], file: Path
) -> tuple[tuple[tuple[Tensor, Tensor], ...], ...]:
    """Layers (weight, bias) of the networks under `name`, whose tensors must be exactly those of the configuration."""
    if not prefixes:
        return ()
    if not all(0 < width <= WIDEST for width in widths):
        raise CheckpointError(f"{file}: found layers of {widths} units, expected 1 to {WIDEST}.")
    state = found.get(name) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file}: {name}: not found, expected its tensors.")
    ends = [f"_encoder._layers.{2 * layer}" for layer in range(len(widths) - 2)] + ["_fc"]
    expected = {}
    for prefix in prefixes:
        for end, n_in, n_out in zip(ends, widths[:-1], widths[1:], strict=True):
            expected[f"{prefix}{end}.weight"] = torch.empty(n_out, n_in, device="meta")
            expected[f"{prefix}{end}.bias"] = torch.empty(n_out, device="meta")
    check_weights(state, expected, file)
    return tuple(
        tuple((state[f"{prefix}{end}.weight"], state[f"{prefix}{end}.bias"]) for end in ends)
        for prefix in prefixes
    )


def _forward(layers: tuple[tuple[Tensor, Tensor], ...], states: Tensor) -> Tensor:
    for weight, bias in layers[:-1]:
        states = linear(states, weight, bias).relu()
    return linear(states, *layers[-1])
