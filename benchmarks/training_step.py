"""Time of one training step: rungs from the published recipe to ours, and d3rlpy, interleaved in one process.

    python benchmarks/training_step.py --out DIR

times each contender in turn, round after round, so that whatever else the machine does meets all of them; each size
of batch has a process of its own, whose compiler starts with an empty cache. The result goes to the screen and to
DIR/training_step.json, beside those of machines with other processors. d3rlpy is left out where it is not installed
(`benchmarks/requirements.txt`).
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from sepsis_cql.benchmarks.contenders import (
    CPU,
    N_ACTIONS,
    N_STATES,
    N_TRANSITIONS,
    Columns,
    DerivedCQL,
    Step,
    d3rlpy_cql,
    made_up_columns,
    ours,
    products_alone,
    published,
    stock,
    with_products,
)
from sepsis_cql.common.provenance import package_versions
from sepsis_cql.common.storage import read_json, write_json
from sepsis_cql.training.devices import describe_device, has_bf16_products
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.step.kernels import linear

EPOCHS, SWEEP = 200, 48  # of a run as published, and the runs of a sweep
SQUARE = 2048  # side of the matrices whose product gives the sgemm rate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=41)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {
        str(size): in_new_process(measure, size, arguments.rounds, arguments.threads) for size in (4096, 256)
    }
    machine = {
        "processor": describe_processor(),
        "device": describe_device(CPU, RuntimeSettings(device="cpu")).model_dump(),
        "versions": package_versions("torch", "d3rlpy", "numpy"),
        "rounds": arguments.rounds,
        "batch_size": results,
    }
    record(machine, arguments.out / "training_step.json")
    for size, result in results.items():
        print(f"batch {size}, {arguments.threads} threads, {arguments.rounds} rounds")
        for name, value in result.items():
            print(f"  {name:80} {value}")


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a process whose compiler has nothing to reuse."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as cache, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        # a cached step would hide the time to compile
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
        return pool.submit(function, *arguments).result()


def describe_processor() -> str:
    """Model, as the system names it, and the vector instructions that PyTorch uses there."""
    capability = torch.backends.cpu.get_cpu_capability()
    pairs = [line.partition(":")[::2] for line in Path("/proc/cpuinfo").read_text().splitlines()]
    facts = {name.strip(): value.strip() for name, value in pairs}
    # a virtual machine may hide the model behind the family's name
    return f"{facts['model name']}, family {facts['cpu family']}, model {facts['model']} ({capability})"


def record(machine: dict[str, Any], path: Path) -> None:
    """Add the machine to the file, in place of an earlier entry of the same processor."""
    machines = read_json(path, expected="earlier results of this script")["machines"] if path.exists() else []
    others = [other for other in machines if other["processor"] != machine["processor"]]
    write_json(path, {"machines": [*others, machine]})


def measure(batch_size: int, rounds: int, threads: int) -> dict[str, Any]:
    """Milliseconds a step of each contender, the ratios of each round, and seconds of compiling and of whole runs."""
    torch.set_num_threads(threads)
    columns = made_up_columns()
    compiling = {"the compiler's start": seconds(lambda: torch.compile(torch.square)(torch.zeros(8)))}
    failures: dict[str, str] = {}
    rungs = {"others": other_rungs(columns, batch_size), "mine": our_rungs(columns, batch_size)}
    for steps in rungs.values():
        for name, step in list(steps.items()):
            try:
                compiling[name] = seconds(step)
            except (RuntimeError, AttributeError) as error:  # a product this processor or this PyTorch lacks
                failures[f"fails, {name}"] = textwrap.shorten(str(error), 120)
                del steps[name]
    others, mine = rungs["others"], rungs["mine"]
    square = torch.randn(SQUARE, SQUARE)
    sgemm = {
        f"sgemm of {name}": with_products(
            lambda: linear(square, square, square[0], relu=False), onednn=name == "oneDNN"
        )
        for name in ("PyTorch", "oneDNN")
    }
    alone = {"products alone, fp32": products_alone(batch_size)}
    n_steps = min(100_000 // batch_size, 200)  # in a round: enough to leave the others' cache behind
    repeats = {"d3rlpy DiscreteCQL": n_steps // 10} | dict.fromkeys(sgemm, 1)
    times = interleave(others | mine | alone | sgemm, rounds, repeats, default=n_steps)
    rates = {name: 2 * SQUARE**3 / min(times.pop(name)) / 1e6 for name in sgemm}
    flops = 2 * batch_size * (3 * N_STATES * 256 + 3 * 256 * 256 + 3 * 256 * N_ACTIONS - N_STATES * 256)
    rates["products of ours, fp32"] = flops / min(times["ours, fp32"]) / 1e6
    result = {f"GFLOP/s, {name}": round(value, 1) for name, value in rates.items()}
    whole = whole_runs({name: times[name] for name in others | mine}, compiling, batch_size)
    return summarize(times, others, mine) | whole | result | failures


def other_rungs(columns: Columns, batch_size: int) -> dict[str, Step]:
    """The published recipe, plain PyTorch, d3rlpy, and ours with one part after another exchanged."""
    rungs = {
        "published recipe": published(columns, batch_size),
        "stock": stock(columns, batch_size, compiled=False),
        "stock, compiled": stock(columns, batch_size, compiled=True),
        "ours, products of PyTorch": with_products(ours(columns, batch_size), onednn=False),
        "ours, products of oneDNN": with_products(ours(columns, batch_size), onednn=True),
        "ours, gradient of the outputs by autograd": ours(columns, batch_size, kind=DerivedCQL),
    }
    if step := d3rlpy_cql(columns, batch_size):
        rungs["d3rlpy DiscreteCQL"] = step
    return rungs


def our_rungs(columns: Columns, batch_size: int) -> dict[str, Step]:
    """Ours, by precision, as it is and compiled."""
    return {
        f"ours, {precision}{', compiled' if compiled else ''}": ours(
            columns, batch_size, precision, compiled=compiled
        )
        for precision in (("fp32", "bf16") if has_bf16_products() else ("fp32",))
        for compiled in (False, True)
    }


def seconds(step: Step) -> float:
    """Seconds of the first call, which compiles what is to be compiled."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def whole_runs(
    times: dict[str, list[float]], compiling: dict[str, float], batch_size: int
) -> dict[str, dict[str, float]]:
    """Seconds of compiling, of a run as published, and of a sweep whose runs share one compilation.

    Args:
        times: milliseconds a step, by contender.
        compiling: seconds of the first call, by contender.
        batch_size: of a step.
    """
    steps = EPOCHS * -(-N_TRANSITIONS // batch_size)
    result = {"s, the compiler's start": {"once": round(compiling["the compiler's start"], 1)}}
    for name, values in times.items():
        start = compiling["the compiler's start"] + compiling[name] if "compiled" in name else 0.0
        run = statistics.median(values) / 1e3 * steps
        result[f"s, {steps} steps, {name}"] = {
            "compiling": round(start, 1),
            "run": round(start + run, 1),
            "sweep": round(start + SWEEP * run),
        }
    return result


def summarize(times: dict[str, list[float]], others: Iterable[str], mine: Iterable[str]) -> dict[str, Any]:
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
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list]:
    """Milliseconds a call of each contender in each round; the first round warms up and is dropped.

    Args:
        contenders: what to time, by name.
        rounds: that count.
        repeats: calls in a round of those that differ from `default`.
        default: calls in a round.
        finish: waits for the device after the calls of a round.
        clock: of the time that passes, or of this process's own.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, step in contenders.items():
            n = repeats.get(name, default)
            began = clock()
            for _ in range(n):
                step()
            finish()
            times[name].append((clock() - began) / n * 1e3)
    return {name: values[1:] for name, values in times.items()}


if __name__ == "__main__":
    main()
