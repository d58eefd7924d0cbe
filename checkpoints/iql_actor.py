"""Actors of the sibling study's implicit Q-learning, whose files name networks otherwise; nothing in them is executed.

Its Hub package is `model.safetensors` of the actor beside Python code and a configuration of its own; its training
leaves a `.pt` whose `model_state_dict` holds a dictionary for each network. The code, and weights in any other format,
are never read.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from sepsis_cql.checkpoints.hub_package import WEIGHTS, new_plain_network, parse_weights, read_small_file
from sepsis_cql.common.errors import CheckpointError
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel

ROLES = {
    "net": "net",
    "actor": "net",
    "policy": "net",
    "policy_network": "net",
    "q1": "critic",
    "critic": "critic",
}
OF_TRAINING = {"q2", "critic_2", "target_q1", "target_q2", "value", "value_network"}  # no part of a policy
LAYER = re.compile(r"(?:(\w+?)\.)?(?:net\.)?(\d+)\.(weight|bias)")


def read_actor_package(directory: Path) -> SepsisCQLModel:
    """Read the actor in `model.safetensors` of a directory; it takes normalized inputs.

    Raises:
        CheckpointError: there is no such file, or its tensors are not those of an actor of 62 inputs and 25 doses.
    """
    file = directory / WEIGHTS
    return actor_model(parse_weights(read_small_file(file), file), file)


def flatten_networks(state: Mapping[str, object]) -> dict[str, object]:
    """Return the tensors of a dictionary of networks by `network.name`; what is flat already stays as it is."""
    flat: dict[str, object] = {}
    for name, value in state.items():
        inner = value.items() if isinstance(value, Mapping) else [(None, value)]
        flat |= {name if key is None else f"{name}.{key}": part for key, part in inner}
    return flat


def names_an_actor(names: list[str]) -> bool:
    """Return whether tensors carry the names of the sibling study's networks and not those of one Q-network."""
    found = [match for name in names if (match := LAYER.fullmatch(name))]
    return any(ROLES.get(match[1] or "net") == "net" and (match[1] or "net") != "net" for match in found)


def actor_model(tensors: Mapping[str, Tensor], source: Path) -> SepsisCQLModel:
    """Return the actor, beside its first critic where that is there, as a model that takes normalized inputs.

    Args:
        tensors: weights and biases by name; networks of the training only are left out.
        source: where they come from, for error messages.

    Raises:
        CheckpointError: a tensor belongs to no network known, or shapes are not those of 62 inputs and 25 doses.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = LAYER.fullmatch(name)
        network = (match[1] or "net") if match else name
        if match is None or network not in {*ROLES, *OF_TRAINING}:
            raise CheckpointError(
                f"{source}: tensor {name} unknown. Expected layers of {sorted(ROLES)}, and of the training "
                f"{sorted(OF_TRAINING)}."
            )
        if network in ROLES:
            renamed[f"{ROLES[network]}.{match[2]}.{match[3]}"] = value
    layers = sorted(
        (int(name.split(".")[1]), name) for name in renamed if re.fullmatch(r"net\.\d+\.weight", name)
    )
    widths = [len(renamed[name]) for _, name in layers if renamed[name].ndim]
    has_critic = any(name.startswith("critic.") for name in renamed)
    try:
        config = SepsisCQLConfig(
            algorithm="iql",
            outputs="actor_and_critic" if has_critic else "logits",
            hidden_sizes=widths[:-1] or [256, 256],
            gamma=None,
            alpha=None,
            reward_variant=None,
            training_data=f"not named (actor {source.name})",
        )
    except StrictDataclassError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return new_plain_network(config, renamed, source)
