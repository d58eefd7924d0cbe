"""Every benchmark of speed in small, one after the other, and one figure of cost against size.

    python benchmarks/every.py --out DIR [--mimic DEMO] [--full]

runs the scripts of `JOBS`, each in a process of its own, at sizes that take minutes together, or with --full at the
sizes of the records in this directory. A build needs the open MIMIC-IV demo (--mimic), learners beside d3rlpy need
d3rlpy (`benchmarks/requirements.txt`); what is left out is said. Each script leaves its record in DIR; DIR/bench.png is
drawn from the records that are there.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from sepsis_cql.common.storage import read_json

HERE = Path(__file__).parent
JOBS = {  # with what makes each small
    "everyday": ["--rounds", "3"],
    "training_step": ["--rounds", "5"],
    "learners_speed": ["--rounds", "3"],
    "evaluation": ["--rounds", "1"],
    "audit": ["--scored", "300", "750", "--rounds", "1"],
    "calibration": ["--case", "icu-sepsis-300", "icu-sepsis-null", "--repetitions", "4", "--rounds", "1"],
    "build_scaling": ["--copies", "1", "4"],
}
STEPS = (
    "published recipe", "stock", "stock, compiled", "ours, fp32", "ours, fp32, compiled", "ours, bf16, compiled",
    "d3rlpy DiscreteCQL", "products alone, fp32",
)  # fmt: skip
Lines = dict[str, dict[float, float]]  # cost by size, by contender


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mimic", type=Path, help="root of the MIMIC-IV demo")
    parser.add_argument("--full", action="store_true", help="at the sizes of the records in benchmarks/")
    parser.add_argument("--only-draw", action="store_true", help="draw the records that are in --out")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    missing = {
        "learners_speed": ""
        if find_spec("d3rlpy")
        else "d3rlpy is not installed (benchmarks/requirements.txt)",
        "build_scaling": "" if arguments.mimic else "no tables to multiply: give --mimic, the open demo",
    }
    for name, small in {} if arguments.only_draw else JOBS.items():
        if why := missing.get(name):
            print(f"{name}: left out, {why}", flush=True)
            continue
        options = [*([] if arguments.full else small), "--out", arguments.out]
        options += ["--mimic", arguments.mimic] if name == "build_scaling" else []
        print(f"{name} {' '.join(map(str, options))}", flush=True)
        subprocess.run([sys.executable, HERE / f"{name}.py", *map(str, options)], check=True)
    draw(arguments.out)


def draw(folder: Path) -> None:
    """Draw cost against size, a panel for each job whose record is there."""
    found = {
        title: (panel, lines)
        for title, panel in PANELS.items()
        if (folder / panel[0]).exists() and (lines := panel[3](read_json(folder / panel[0], expected="")))
    }
    columns = 3
    figure, panels = plt.subplots(
        -(-len(found) // columns),
        columns,
        figsize=(12, 3.4 * -(-len(found) // columns)),
        layout="constrained",
        squeeze=False,
    )
    for panel, (title, ((_, size, cost, _), lines)) in zip(panels.flat, found.items(), strict=False):
        for name, costs in lines.items():
            panel.loglog(list(costs), list(costs.values()), "o-", label=name)
        panel.set(title=title, xlabel=size, ylabel=cost)
        sizes = sorted({size for costs in lines.values() for size in costs})
        panel.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.legend(fontsize=7)
    for panel in panels.flat[len(found) :]:
        panel.axis("off")
    figure.savefig(folder / "bench.png", dpi=100)
    print(folder / "bench.png")


def medians(field: str) -> Callable[[dict[str, Any]], Lines]:
    """Lines of a record that holds, by size, the median of each contender."""

    def lines(record: dict[str, Any]) -> Lines:
        return turned(
            {
                size: {k: v["median"] for k, v in one.items() if isinstance(v, dict)}
                for size, one in record[field].items()
            }
        )

    return lines


def turned(by_size: dict[str, dict[str, float]]) -> Lines:
    """Cost by size of each contender, of the costs of each contender by size."""
    names = dict.fromkeys(name for one in by_size.values() for name in one)
    return {
        name: {
            float(size): one[name]
            for size, one in sorted(by_size.items(), key=lambda item: float(item[0]))
            if name in one
        }
        for name in names
    }


def steps(record: dict[str, Any]) -> Lines:
    """Milliseconds of a training step on the machine that was measured last."""
    sizes = record["machines"][-1]["batch_size"]
    return turned(
        {
            size: {name: one[f"ms, {name}"]["median"] for name in STEPS if f"ms, {name}" in one}
            for size, one in sizes.items()
        }
    )


def updates(record: dict[str, Any]) -> Lines:
    """Milliseconds of an update of each learner, compiled, and of d3rlpy's, on the machine that was measured last."""
    return turned(
        {
            size: {
                f"{learner}, {who}": one[f"ms, {who}"]["median"]
                for learner, one in learners.items()
                for who in ("ours, compiled", "d3rlpy")
            }
            for size, learners in record["machines"][-1]["batch_size"].items()
        }
    )


def builds(record: dict[str, Any]) -> Lines:
    """Processor's seconds of a build and of its floor."""
    return turned(
        {
            str(one["rows"]): {task: one[task]["processor_seconds"] for task in ("floor", "build")}
            for one in record["sizes"]
        }
    )


def audits(record: dict[str, Any]) -> Lines:
    """Processor's seconds of whole evaluations."""
    whole = record["by scored episodes, s"]
    return turned(
        {
            size: {name: times["processor"] for name, times in one.items() if name.startswith("whole")}
            for size, one in whole.items()
        }
    )


def repetitions(record: dict[str, Any]) -> Lines:
    """Seconds that pass for a repetition, by the number of processes."""
    lines: Lines = {}
    for name, one in record["cases"].items():
        for part, values in one.items():
            if part.startswith("a repetition") and part.endswith("processes, s"):
                lines.setdefault(name, {})[float(part.split()[2])] = values["median"]
    return lines


PANELS: dict[str, tuple[str, str, str, Callable[[dict[str, Any]], Lines]]] = {
    "training step": ("training_step.json", "transitions in a batch", "ms", steps),
    "update of a learner": ("learners_speed.json", "transitions in a batch", "ms of processor", updates),
    "build": ("build_scaling.json", "rows of the tables", "s of processor", builds),
    "sound evaluation": ("audit.json", "scored episodes", "s of processor", audits),
    "published evaluation": ("everyday.json", "scored episodes", "ms", medians("by scored episodes, ms")),
    "package": ("everyday.json", "rows of patients", "ms", medians("by rows of patients, ms")),
    "repetition of a calibration": ("calibration.json", "processes", "s", repetitions),
}

if __name__ == "__main__":
    main()
