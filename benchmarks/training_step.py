"""Time of one training step, ours against the published recipe and d3rlpy, interleaved in one process.

    python benchmarks/training_step.py --out DIR

times each contender in turn, round after round, so that whatever else the machine does meets all of them. The
result goes to DIR/training_step.json and to the screen. d3rlpy is left out where it is not installed
(`benchmarks/requirements.txt`).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepsis_cql.benchmarks.published_recipe import PublishedRecipe, q_network
from sepsis_cql.provenance import package_versions
from sepsis_cql.storage import write_json
from sepsis_cql.training.buffer import ResidentBuffer
from sepsis_cql.training.compilation import CompiledUpdate
from sepsis_cql.training.cql import ConservativeQLearning
from sepsis_cql.training.devices import describe_device
from sepsis_cql.training.network import TrainableNetwork
from sepsis_cql.training.products import input_gradient, layer_gradient, linear
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
    parser.add_argument("--rounds", type=int, default=41)
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


def made_up_columns(device: torch.device = CPU) -> Columns:
    """Random transitions of the published size: states, actions, rewards, next states, terminals."""
    generator = torch.Generator().manual_seed(0)
    states, next_states = torch.randn(2, N_TRANSITIONS, N_STATES, generator=generator)
    actions = torch.randint(0, N_ACTIONS, (N_TRANSITIONS,), generator=generator)
    terminals = torch.rand(N_TRANSITIONS, generator=generator) < 0.09
    rewards = torch.where(terminals, 15.0, 0.0)
    return (
        states.to(device),
        actions.to(device),
        rewards.to(device),
        next_states.to(device),
        terminals.to(device),
    )


def measure(columns: Columns, batch_size: int, rounds: int) -> dict[str, Any]:
    """Milliseconds a step of each contender, the products' rates, and medians of the ratio in each round."""
    mine = {
        f"ours, {precision}{', compiled' if compiled else ''}": ours(columns, batch_size, precision, compiled)
        for precision in ("fp32", "bf16")
        for compiled in (False, True)
    }
    others = {"published recipe": published(columns, batch_size)}
    if step := d3rlpy_cql(columns, batch_size):
        others["d3rlpy DiscreteCQL"] = step
    square = torch.randn(SQUARE, SQUARE)
    sgemm = {
        "sgemm of PyTorch": lambda: square @ square,
        "sgemm of oneDNN": lambda: linear(square, square, square[0], relu=False),
    }
    alone = {"products alone, fp32": products_alone(batch_size)}
    steps = 100_000 // batch_size  # of a contender in a round: enough to leave the others' cache behind
    repeats = {"d3rlpy DiscreteCQL": steps // 10} | dict.fromkeys(sgemm, 1)
    times = interleave(others | mine | alone | sgemm, rounds, repeats, default=steps)
    rates = {name: 2 * SQUARE**3 / min(times.pop(name)) / 1e6 for name in sgemm}
    flops = 2 * batch_size * (3 * N_STATES * 256 + 3 * 256 * 256 + 3 * 256 * N_ACTIONS - N_STATES * 256)
    rate = flops / min(times["ours, fp32, compiled"]) / 1e6
    result = {f"GFLOP/s, {name}": round(value, 1) for name, value in rates.items()}
    result["GFLOP/s, products of ours, fp32, compiled"] = round(rate, 1)
    result["share of the sgemm rate of PyTorch"] = round(rate / rates["sgemm of PyTorch"], 2)
    return summarise(times, others, mine) | result


def summarise(times: dict[str, list[float]], others: Iterable[str], mine: Iterable[str]) -> dict[str, Any]:
    """Milliseconds of each contender, and the median over the rounds of the time of each other to each of mine."""
    result: dict[str, Any] = {
        f"ms, {name}": {"median": round(statistics.median(values), 3), "best": round(min(values), 3)}
        for name, values in times.items()
    }
    for name in mine:
        for other in others:
            ratios = [theirs / ours for theirs, ours in zip(times[other], times[name], strict=True)]
            result[f"{other} / {name}"] = round(statistics.median(ratios), 2)
    return result


def interleave(
    contenders: dict[str, Step],
    rounds: int,
    repeats: dict[str, int],
    default: int,
    finish: Callable[[], object] = lambda: None,
) -> dict[str, list]:
    """Milliseconds a call of each contender in each round; the first round warms up and is dropped.

    Args:
        contenders: what to time, by name.
        rounds: that count.
        repeats: calls in a round of those that differ from `default`.
        default: calls in a round.
        finish: waits for the device after the calls of a round.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, step in contenders.items():
            n = repeats.get(name, default)
            began = time.perf_counter()
            for _ in range(n):
                step()
            finish()
            times[name].append((time.perf_counter() - began) / n * 1e3)
    return {name: values[1:] for name, values in times.items()}


def shuffled(batch_size: int, n_models: int = 1, device: torch.device = CPU) -> Iterator[torch.Tensor]:
    """Endless batches as an epoch hands them out: slices of one random order, the same for every model of a stack."""
    order = torch.randperm(N_TRANSITIONS, device=device)
    order = order.expand(n_models, -1) if n_models > 1 else order
    while True:
        yield from order.split(batch_size, dim=-1)[:-1]


def published(columns: Columns, batch_size: int) -> Step:
    """One step of the published recipe."""
    device = columns[0].device
    recipe, batches = (
        PublishedRecipe(q_network(N_STATES, 0).to(device), columns),
        shuffled(batch_size, device=device),
    )
    return torch.enable_grad()(lambda: recipe.update(next(batches)))


def new_learner(columns: Columns, precision: str, n_models: int = 1) -> ConservativeQLearning:
    """The learner of one run, or of a stack of them, where the columns are."""
    states, actions, rewards, next_states, terminals = columns
    network = TrainableNetwork(
        [q_network(N_STATES, seed) for seed in range(n_models)],
        [1e-4] * n_models,
        grad_clip=10.0,
        device=states.device,
        reduced_precision=precision == "bf16",
    )
    return ConservativeQLearning(
        network,
        ResidentBuffer(states.to(network.inputs_dtype), next_states, actions, terminals),
        rewards.expand(n_models, -1).clone() if n_models > 1 else rewards,
        alphas=[0.05] * n_models,
        gamma=0.99,
        target_update_epochs=10,
    )


def ours(columns: Columns, batch_size: int, precision: str, compiled: bool) -> Step:
    learner, batches = new_learner(columns, precision), shuffled(batch_size)
    update = CompiledUpdate(learner.update, batch_size) if compiled else learner.update
    return torch.no_grad()(lambda: update(next(batches)))


def products_alone(batch_size: int) -> Step:
    """The eight matrix products of a step, which no step can be faster than."""
    inputs = [torch.randn(batch_size, n) for n in (N_STATES, 256, 256)]
    gradients = [torch.randn(batch_size, n) for n in (256, 256, N_ACTIONS)]
    weights = [torch.randn(n, m) for n, m in ((256, N_STATES), (256, 256), (N_ACTIONS, 256))]

    def step() -> None:
        for value, weight in zip(inputs, weights, strict=True):
            linear(value, weight, weight[:, 0].contiguous(), relu=True)
        for gradient, value in zip(gradients, inputs, strict=True):
            layer_gradient(gradient, value)
        for gradient, weight in zip(gradients[1:], weights[1:], strict=True):
            input_gradient(gradient, weight)

    return step


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
