"""The training split as tensors that stay on the device, and the order in which an epoch visits them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.transitions import Transitions


@dataclass(frozen=True)
class DeviceBuffer:
    """The transitions of the training split on one device.

    Attributes:
        states: (n, n_states) network inputs, of the type the network computes in.
        next_states: (n, n_states) network inputs in float32.
        actions: (n,) int64.
        terminals: (n,) bool.
    """

    states: Tensor
    next_states: Tensor
    actions: Tensor
    terminals: Tensor

    def __len__(self) -> int:
        return len(self.actions)


def load_device_buffer(
    transitions: Transitions, model: SepsisCQLModel, device: torch.device, inputs_dtype: torch.dtype
) -> DeviceBuffer:
    """Normalize the states as `model` does and move everything to `device`."""

    def inputs(states: np.ndarray) -> Tensor:
        return model.normalize(torch.tensor(states)).to(device)

    return DeviceBuffer(
        states=inputs(transitions.states).to(inputs_dtype),
        next_states=inputs(transitions.next_states),
        actions=torch.tensor(transitions.actions, device=device),
        terminals=torch.tensor(transitions.terminals, device=device),
    )


def epoch_order(seed: int, epoch: int, n: int) -> Tensor:
    """Return the (n,) int64 order in which a run with this seed visits the transitions in this epoch.

    It depends on nothing else, so that a resumed run and each of several models see the same batches.
    """
    generator = torch.Generator().manual_seed((seed << 32) + epoch)
    return torch.randperm(n, generator=generator)
