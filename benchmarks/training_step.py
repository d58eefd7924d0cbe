"""Time of one training step, ours against the published recipe and d3rlpy, interleaved in one process.

    python benchmarks/training_step.py --out DIR

times each contender in turn, round after round, so that whatever else the machine does meets all of them. The
result goes to DIR/training_step.json and to the screen. d3rlpy is left out where it is not installed
(`benchmarks/requirements.txt`).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.benchmarks.published_recipe import PublishedRecipe, q_network
from sepsis_cql.provenance import package_versions
from sepsis_cql.storage import write_json
from sepsis_cql.training.buffer import ResidentBuffer
from sepsis_cql.training.cql import ConservativeQLearning
from sepsis_cql.training.devices import describe_device
from sepsis_cql.training.network import TrainableNetwork
from sepsis_cql.training.products import linear
from sepsis_cql.training.settings import RuntimeSettings

N_TRANSITIONS, N_STATES, N_ACTIONS = 140_635, 62, 25  # the published training split
CPU = torch.device("cpu")
SQUARE = 2048  # side of the matrices whose product gives the sgemm rate
Step = Callable[[], object]
Columns = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    columns = made_up_columns()
    results = {str(size): measure(columns, size, arguments.rounds) for size in (4096, 256)}
    device = describe_device(CPU, RuntimeSettings(device="cpu"))
    versions = package_versions("torch", "d3rlpy", "numpy")
    write_json(
        arguments.out / "training_step.json", {"device": device, "versions": versions, "batch_size": results}
    )
    for size, result in results.items():
        print(f"batch {size}, {arguments.threads} threads, {arguments.rounds} rounds")
        for name, value in result.items():
            print(f"  {name:44} {value}")


def made_up_columns() -> Columns:
    """Random transitions of the published size: states, actions, rewards, next states, terminals."""
    generator = torch.Generator().manual_seed(0)
    states, next_states = torch.randn(2, N_TRANSITIONS, N_STATES, generator=generator)
    actions = torch.randint(0, N_ACTIONS, (N_TRANSITIONS,), generator=generator)
    terminals = torch.rand(N_TRANSITIONS, generator=generator) < 0.09
    rewards = torch.where(terminals, 15.0, 0.0)
    return states, actions, rewards, next_states, terminals


def measure(columns: Columns, batch_size: int, rounds: int) -> dict[str, Any]:
    """Milliseconds a step of each contender, the products' rates, and ratios of medians."""
    contenders = {
        "published recipe": published(columns, batch_size),
        "ours, fp32": ours(columns, batch_size, reduced_precision=False),
        "ours, bf16": ours(columns, batch_size, reduced_precision=True),
    }
    if step := d3rlpy_cql(columns, batch_size):
        contenders["d3rlpy DiscreteCQL"] = step
    square = torch.randn(SQUARE, SQUARE)
    contenders["sgemm of PyTorch"] = lambda: square @ square
    contenders["sgemm of oneDNN"] = lambda: linear(square, square, square[0], relu=False)
    times = interleave(contenders, rounds, {"d3rlpy DiscreteCQL": 2}, default=max(2, 12_000 // batch_size))
    median = {name: statistics.median(values) for name, values in times.items()}
    flops = 2 * batch_size * (3 * N_STATES * 256 + 3 * 256 * 256 + 3 * 256 * N_ACTIONS - N_STATES * 256)
    rates = {name: 2 * SQUARE**3 / min(times.pop(name)) / 1e6 for name in list(times) if "sgemm" in name}
    rate = flops / min(times["ours, fp32"]) / 1e6
    result: dict[str, Any] = {
        f"ms, {name}": {"median": round(median[name], 3), "best": round(min(values), 3)}
        for name, values in times.items()
    }
    result |= {f"GFLOP/s, {name}": round(value, 1) for name, value in rates.items()}
    result["GFLOP/s, products of ours, fp32"] = round(rate, 1)
    result["share of the sgemm rate of PyTorch"] = round(rate / rates["sgemm of PyTorch"], 2)
    for mine in ("ours, fp32", "ours, bf16"):
        for other in times.keys() & {"published recipe", "d3rlpy DiscreteCQL"}:
            result[f"{other} / {mine}"] = round(median[other] / median[mine], 2)
    return result


def interleave(
    contenders: dict[str, Step], rounds: int, repeats: dict[str, int], default: int
) -> dict[str, list]:
    """Milliseconds a call of each contender in each round; the first round warms up and is dropped."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, step in contenders.items():
            n = repeats.get(name, default) if "sgemm" not in name else 1
            began = time.perf_counter()
            for _ in range(n):
                step()
            times[name].append((time.perf_counter() - began) / n * 1e3)
    return {name: values[1:] for name, values in times.items()}


def random_rows(batch_size: int) -> Callable[[], torch.Tensor]:
    """Batches as an epoch hands them out: slices of one random order."""
    batches = torch.randperm(N_TRANSITIONS).split(batch_size)[:-1]
    position = iter(range(10**9))
    return lambda: batches[next(position) % len(batches)]


def published(columns: Columns, batch_size: int) -> Step:
    recipe, rows = PublishedRecipe(q_network(N_STATES, 0), columns), random_rows(batch_size)
    return lambda: recipe.update(rows())


def ours(columns: Columns, batch_size: int, *, reduced_precision: bool) -> Step:
    states, actions, rewards, next_states, terminals = columns
    network = TrainableNetwork(
        [q_network(N_STATES, 0)], [1e-4], grad_clip=10.0, device=CPU, reduced_precision=reduced_precision
    )
    buffer = ResidentBuffer(states.to(network.inputs_dtype), next_states, actions, terminals)
    learner = ConservativeQLearning(
        network, buffer, rewards, alphas=[0.05], gamma=0.99, target_update_epochs=10
    )
    rows = random_rows(batch_size)
    return torch.no_grad()(lambda: learner.update(rows()))


def d3rlpy_cql(columns: Columns, batch_size: int) -> Step | None:
    """One update of d3rlpy's DiscreteCQL, its sampling included; None where d3rlpy is not installed."""
    try:
        import d3rlpy
    except ImportError:
        return None
    states, actions, rewards, _, terminals = (column.numpy() for column in columns)
    terminals = terminals.copy()
    terminals[-1] = True
    dataset = d3rlpy.dataset.MDPDataset(
        states,
        actions[:, None],
        rewards[:, None],
        terminals.astype(np.float32),
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=N_ACTIONS,
    )
    algorithm = d3rlpy.algos.DiscreteCQLConfig(
        batch_size=batch_size,
        learning_rate=1e-4,
        alpha=0.05,
        encoder_factory=d3rlpy.models.VectorEncoderFactory([256, 256]),
    ).create(device="cpu:0")
    algorithm.build_with_dataset(dataset)
    return lambda: algorithm.update(dataset.sample_transition_batch(batch_size))


if __name__ == "__main__":
    main()
