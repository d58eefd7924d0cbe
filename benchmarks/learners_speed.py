"""Time of one update of each learner that d3rlpy has too, interleaved, and how far one update of both differs.

    python benchmarks/learners_speed.py --out DIR

needs d3rlpy (`benchmarks/requirements.txt`). Both sides have the published sizes: 140,635 transitions, networks of two
layers of 256. Each sampling is included: d3rlpy draws its batch, ours takes the next slice of a shuffled epoch. Ours is
timed as it is, with `runtime.compiled`, and where the processor has them with products in bfloat16
(`runtime.precision`). `products alone` are the matrix products that the method needs in float32: about the floor of any
update. DIR/learners_speed.json keeps the results of other processors. It is the processor's time on one thread, so that
other work counts for neither side.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import d3rlpy
import numpy as np
import torch

from sepsis_cql.benchmarks.contenders import (
    N_ACTIONS,
    N_STATES,
    Columns,
    Step,
    made_up_columns,
    products_alone,
    shuffled,
)
from sepsis_cql.benchmarks.published_recipe import q_network
from sepsis_cql.benchmarks.training_step import describe_processor, interleave, record, summarize
from sepsis_cql.common.provenance import package_versions
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.training.devices import has_bf16_products
from sepsis_cql.training.learners.base import Learner
from sepsis_cql.training.learners.registry import LEARNERS, load_training_settings
from sepsis_cql.training.step.compiled import CompiledUpdate
from sepsis_cql.training.step.device_buffer import DeviceBuffer
from sepsis_cql.training.step.network import TrainableNetwork

# In a round, by size of batch; 32 is d3rlpy's own, 4096 the published study's. The first call of a round takes memory
# anew that the other side gave back, so that one alone would tell of no training.
CALLS = {32: 20, 256: 8, 4096: 5}
RATE, GAMMA = 1e-4, 0.99
LAYERS = [256, 256]


class Pair(NamedTuple):
    """A learner here and there, with what makes d3rlpy's loss the same.

    Attributes:
        looks: passes of a network in an update that no gradient follows.
    """

    name: str
    theirs: type[Any]
    options: dict[str, Any]
    changes: dict[str, Any]
    looks: int


PAIRS = [
    Pair("double_cql", d3rlpy.algos.DiscreteCQLConfig, {"alpha": 0.05}, {"alpha": 0.05}, 1),
    Pair("dqn", d3rlpy.algos.DQNConfig, {}, {}, 0),
    # d3rlpy penalizes log-probabilities, the paper's code and ours the logits themselves, so neither does here.
    Pair(
        "bcq",
        d3rlpy.algos.DiscreteBCQConfig,
        {"beta": 0.0, "share_encoder": False},
        {"logit_penalty": 0.0},
        3,
    ),
    Pair("behavior_cloning", d3rlpy.algos.DiscreteBCConfig, {"beta": 0.0}, {}, 0),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    columns = made_up_columns()
    states, actions, rewards, next_states, terminals = columns
    dataset, calm = (
        make_dataset(columns),
        make_dataset((states / 4, actions, rewards / 50, next_states / 4, terminals)),
    )
    result: dict[str, Any] = {
        "processor": describe_processor(),
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "versions": package_versions("torch", "d3rlpy"),
        "one update of both: length of the difference / length of the update": {
            pair.name: compare_update(pair, calm) for pair in PAIRS
        },
        "batch_size": {},
    }
    for batch_size, calls in CALLS.items():
        found = result["batch_size"][str(batch_size)] = {}
        for pair in PAIRS:
            mine = {
                "ours": our_step(pair, columns, batch_size),
                "ours, compiled": our_step(pair, columns, batch_size, compiled=True),
                "products alone": products_of(pair, columns, batch_size),
            }
            if has_bf16_products():
                mine["ours, bf16"] = our_step(pair, columns, batch_size, bf16=True)
                mine["ours, bf16, compiled"] = our_step(pair, columns, batch_size, compiled=True, bf16=True)
            theirs = {"d3rlpy": their_step(pair, dataset, batch_size)}
            times = interleave(theirs | mine, arguments.rounds, {}, calls, clock=time.process_time)
            found[pair.name] = summarize(times, theirs, mine)
            print(batch_size, pair.name, found[pair.name], flush=True)
        load = {"load of the machine in the last minutes": os.getloadavg()[2]}
        record(result | load, arguments.out / "learners_speed.json")


def make_dataset(columns: Columns) -> Any:
    """Return the columns as d3rlpy's replay buffer."""
    states, actions, rewards, _, terminals = (column.numpy() for column in columns)
    ends = terminals.astype(np.float32)
    ends[-1] = 1.0
    return d3rlpy.dataset.MDPDataset(
        states,
        actions[:, None],
        rewards[:, None],
        ends,
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=N_ACTIONS,
    )


def new_ours(pair: Pair, columns: Columns, first_seed: int = 0, *, bf16: bool = False) -> Learner:
    """Return our learner with its shipped settings, of networks that the seeds from `first_seed` on draw."""
    kind = LEARNERS[pair.name]
    settings = load_training_settings(SHIPPED / f"{pair.name}.yaml", pair.changes)
    states, actions, rewards, next_states, terminals = columns
    network = TrainableNetwork(
        [q_network(N_STATES, first_seed + part) for part in range(len(kind.parts))],
        [RATE] * len(kind.parts),
        grad_clip=1e6,
        device=states.device,
        reduced_precision=bf16,
    )
    buffer = DeviceBuffer(states.to(network.inputs_dtype), next_states, actions, terminals)
    return kind(network, buffer, rewards, [settings])


def new_theirs(pair: Pair, dataset: Any, batch_size: int) -> Any:
    """Return d3rlpy's learner."""
    layers = d3rlpy.models.VectorEncoderFactory(LAYERS)
    config = pair.theirs(
        batch_size=batch_size, learning_rate=RATE, gamma=GAMMA, encoder_factory=layers, **pair.options
    )
    learner = config.create(device="cpu:0")
    learner.build_with_dataset(dataset)
    return learner


def our_step(
    pair: Pair, columns: Columns, batch_size: int, *, compiled: bool = False, bf16: bool = False
) -> Step:
    """One update of our learner."""
    learner, batches = new_ours(pair, columns, bf16=bf16), shuffled(batch_size)
    update = CompiledUpdate(learner.update, batch_size) if compiled else learner.update
    return torch.no_grad()(lambda: update(next(batches)))


def products_of(pair: Pair, columns: Columns, batch_size: int) -> Step:
    """The matrix products of an update: of each network there and back, and of passes that no gradient follows."""
    learner = new_ours(pair, columns)
    both, inputs = products_alone(batch_size), torch.randn(batch_size, N_STATES)

    def step() -> None:
        for _ in learner.parts:
            both()
        for _ in range(pair.looks):
            learner.outputs_of("net", learner.network.weights, inputs)

    return step


def their_step(pair: Pair, dataset: Any, batch_size: int) -> Step:
    """One update of d3rlpy's."""
    learner = new_theirs(pair, dataset, batch_size)
    return torch.enable_grad()(lambda: learner.update(dataset.sample_transition_batch(batch_size)))


def compare_update(pair: Pair, dataset: Any, batch_size: int = 256) -> float:
    """Return how far one update of both differs, from equal weights on equal transitions, as a share of the update.

    States and rewards are small, so that no error leaves the part where Huber's loss is a square, as the loss of `dqn`
    is: of d3rlpy half of it, which changes an update only by the constant of Adam's denominator.
    """
    batch = dataset.sample_transition_batch(batch_size)
    states, actions, rewards, next_states, terminals = (
        torch.from_numpy(np.asarray(part))
        for part in (
            batch.observations,
            batch.actions[:, 0].astype(np.int64),
            batch.rewards[:, 0],
            batch.next_observations,
            batch.terminals[:, 0].astype(bool),
        )
    )
    columns = states, actions, rewards, next_states, terminals
    mine, theirs = new_ours(pair, columns), new_theirs(pair, dataset, batch_size)
    networks = start_alike(theirs)
    before = flatten(networks)
    theirs.update(batch)
    with torch.no_grad():
        mine.update(torch.arange(batch_size))
    expected = flatten(networks)
    found = mine.network.weights.reshape(expected.shape)
    return float((found - expected).norm() / (expected - before).norm())


def start_alike(theirs: Any, first_seed: int = 0) -> list[torch.nn.Module]:
    """Give d3rlpy's learner the weights that `new_ours` draws; return its networks."""
    networks = list(networks_of(theirs))
    for part, network in enumerate(networks):
        copy_weights(q_network(N_STATES, first_seed + part), network)
    if hasattr(theirs.impl.modules, "targ_q_funcs"):
        theirs.impl.modules.targ_q_funcs.load_state_dict(theirs.impl.modules.q_funcs.state_dict())
    return networks


def flatten(networks: list[torch.nn.Module]) -> torch.Tensor:
    """Return (networks, parameters) weights."""
    rows = [torch.nn.utils.parameters_to_vector(one.parameters()) for one in networks]
    return torch.stack(rows).detach().clone()


def networks_of(learner: Any) -> Iterator[torch.nn.Module]:
    """Yield the networks that d3rlpy trains, in our order: values, then the clone."""
    modules = learner.impl.modules
    if hasattr(modules, "q_funcs"):
        yield modules.q_funcs
    if hasattr(modules, "imitator"):
        yield modules.imitator


def copy_weights(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Copy weights layer by layer, in the order in which both keep them."""
    flat = torch.nn.utils.parameters_to_vector(source.parameters()).detach()
    torch.nn.utils.vector_to_parameters(flat, target.parameters())


if __name__ == "__main__":
    main()
