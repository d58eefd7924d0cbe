"""Learners compared on ICU-Sepsis, where every policy's value is exact, and the page that shows committed results.

    python benchmarks/learners.py --out DIR [--training 2000] [--set comparison.schedule.epochs=20]
    python benchmarks/learners.py --page

The first trains and judges them as `sepsis-cql compare` does, on simulated episodes, and writes DIR/comparison.json;
the second writes docs/learners.md from benchmarks/learners_*.json.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from sepsis_cql.benchmarks.contenders import N_TRANSITIONS
from sepsis_cql.benchmarks.selection import WideIcuSepsis, widen
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.storage import read_json, write_json
from sepsis_cql.common.strict import SHIPPED, load_settings, load_shipped, parse_changes, read_record
from sepsis_cql.evaluation.comparison.compare import Arena, compare_learners
from sepsis_cql.evaluation.comparison.figure import draw_comparison
from sepsis_cql.evaluation.comparison.record import RECORD, Comparison, ComparisonSettings
from sepsis_cql.evaluation.comparison.show import render_table, say_findings
from sepsis_cql.evaluation.data import assemble_data
from sepsis_cql.evaluation.known_truth.calibrate import CalibrationSettings, CaseSettings, collect
from sepsis_cql.evaluation.known_truth.icu_sepsis import TabularIcu, load_icu_sepsis
from sepsis_cql.evaluation.policies.base import FunctionPolicy, Policy
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.replay.directory import ReplayFile
from sepsis_cql.replay.interop.exports import write_original
from sepsis_cql.synthetic.truth import TrueValue, Truth
from sepsis_cql.training.devices import load_runtime

TEST_SEED = 9_000_000  # of the episodes that the results are about
INTRODUCTION = """\
Every learner of this package, each tuned over as many configurations, chosen on validation, trained with every seed and
judged on other episodes (`sepsis-cql compare`, `configs/comparison.yaml`). Numbers are mean ± standard deviation over
seeds, in units of reward: +15 for survival, -15 for death, discounted. `judged as` is the version, softened towards
clinicians or not, that validation chose; `as it acts` is the policy without softening; `max Q` is what the published
protocol calls FQE; `published WIS` is of the greedy policy, and `its ESS` the episodes that its own weights are worth:
below two it is `failed`, and below those that the verdict asks for it leads nowhere. Everything is simulated: nothing
here says anything of patients. The page is written by `python benchmarks/learners.py --page`."""
WITHOUT_REFERENCE = """\
d3rlpy has none of the others for doses in bins, and we know of no published value of theirs on recorded episodes of
ICU-Sepsis: its paper (Choudhary 2024) trains online, and a blog's survival of 86.0% with CQL, 82.0% with DQN and 84.0%
with cloning (anishmariathasan.github.io, January 2026) is of other episodes and comes without a sampling error. Their
updates are compared with a plain computation of each paper's loss (`tests/training/test_updates.py`, `test_cql.py`)."""
PLACES = {
    "icu_sepsis": (
        "ICU-Sepsis, where every value is exact",
        "python benchmarks/learners.py --training 2000 --seeds 5",
    ),
    "synthetic": ("The simulated ICU", "sepsis-cql compare --split test --why comparison --seeds 5"),
}
SOURCES = {
    "icu_sepsis": "its own simulated episodes",
    "synthetic": "a replay built from `sepsis-cql synthesize --patients 5000 --seed 1`, version {} of the simulator",
}
LOAD = "load of the machine in the last minutes"
FAST = 5  # times d3rlpy's step


@dataclass(frozen=True)
class ExactTruth:
    """Values from the tables of ICU-Sepsis, in the place of rollouts."""

    icu: TabularIcu

    @property
    def behavior(self) -> Policy:
        """The clinicians; in terminal states, where nobody acts, anything."""
        clinicians = np.where(self.icu.terminal[:, None], 1 / 25, self.icu.clinicians)
        return FunctionPolicy(
            "clinicians", lambda states: clinicians[self.icu.state_index(states[:, : self._width])]
        )

    @property
    def _width(self) -> int:
        return self.icu.features.shape[1]

    def value(self, policy: Policy, n_episodes: int, seed: int, *, gamma: float) -> TrueValue:
        """Return the exact value; there are no rollouts."""
        live = ~self.icu.terminal
        table = np.full(self.icu.clinicians.shape, 1 / 25)
        table[live] = policy.probabilities(widen(self.icu.features[live]))
        return TrueValue(self.icu.true_value(table), 0.0, np.nan, 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", action="store_true")
    parser.add_argument(
        "--training", type=int, default=2000, help="episodes; a third as many each are scored"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="as comparison.schedule.epochs=20")
    arguments = parser.parse_args()
    if arguments.page:
        (ROOT / "docs" / "learners.md").write_text(render_page(), encoding="utf-8")
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        run(arguments.out, arguments.training, arguments.seeds, arguments.set)


def run(out: Path, training: int, seeds: int, changes: list[str]) -> None:
    """Compare every learner that has a grid."""
    changed = parse_changes(changes, ["comparison", "evaluation", "runtime"])
    settings = load_settings(ComparisonSettings, SHIPPED / "comparison.yaml", changed["comparison"])
    settings = settings.model_copy(update={"seeds": settings.seeds[:seeds]})
    rules = load_settings(EvaluationSettings, SHIPPED / "evaluation.yaml", changed["evaluation"])
    runtime = load_runtime(None, changed["runtime"])
    torch.set_num_threads(runtime.threads or torch.get_num_threads())
    case = CaseSettings(
        environment="icu-sepsis", training=training, scored=training // 3, behavior="estimated"
    )
    environment = WideIcuSepsis(case, rules.gamma, rules.bound)
    validation = collect(environment, case, load_shipped(CalibrationSettings, "calibration.yaml"), rules)
    write_original(validation.train, out / "train.parquet")
    icu = load_icu_sepsis(rules.gamma, rules.bound)
    test = environment.sample(training // 3, TEST_SEED)
    scored = assemble_data(validation.train, test, environment.inputs, validation.model, rules.gamma)
    arena = Arena(ReplayFile(out / "train.parquet"), validation, scored, "test", cast(Truth, ExactTruth(icu)))
    found = compare_learners(list(settings.grids), arena, settings, rules, runtime, out, report=print)
    write_json(out / RECORD, found.model_dump(mode="json"))
    draw_comparison(found, out / "comparison.png")
    print(render_table(found), *say_findings(found), sep="\n")


def render_page() -> str:
    """Return docs/learners.md, the committed comparisons as tables and sentences, and draw its figures."""
    lines = [
        "# Learners side by side",
        "",
        INTRODUCTION,
        "",
    ]
    for name, (title, command) in PLACES.items():
        file = ROOT / "benchmarks" / f"learners_{name}.json"
        if not file.exists():
            continue
        found = read_record(Comparison, file, expected="a comparison of learners")
        draw_comparison(found, ROOT / "docs" / f"learners_{name}.png")
        schedule = ", ".join(f"{field} {value}" for field, value in found.settings.schedule.items())
        lines += [
            f"## {title}",
            "",
            f"{found.n_training_episodes} training episodes, {found.n_episodes} scored ones; seeds "
            f"{', '.join(map(str, found.settings.seeds))}; {schedule}. Made by `{command}` on "
            f"{SOURCES[name].format(found.replay.source.version)}, at commit {found.git_commit}, settings as shipped.",
            "",
            f"![values by learner](learners_{name}.png)",
            "",
            render_table(found),
            *(f"- {line}" for line in say_findings(found)),
            "",
        ]
    return "\n".join([*lines, *render_beside(), *render_speed()])


def render_beside() -> list[str]:
    """Return the section on d3rlpy, from what `learners_beside_d3rlpy.py` found."""
    found = read_json(
        ROOT / "benchmarks" / "learners_beside_d3rlpy.json", expected="what the benchmark found"
    )
    rows = [
        f"| {name} | {spread(pair['ours'])} | {spread(pair['d3rlpy'])} "
        f"| [{pair['difference'][0]:.2f}, {pair['difference'][1]:.2f}] |"
        for name, pair in found.items()
        if isinstance(pair, dict) and "ours" in pair
    ]
    return [
        "## Beside d3rlpy on ICU-Sepsis",
        "",
        f"{found['episodes']} episodes, {found['updates']} updates of batches of 256, 5 seeds, the same first weights; "
        f"true values of greedy policies, the clinicians' being {found['clinicians']:.2f}. Made by `python "
        f"benchmarks/learners_beside_d3rlpy.py` with d3rlpy {found['versions']['d3rlpy']}. Rewards of `dqn` are a "
        "fiftieth on both sides, where d3rlpy's Huber loss is the square that the loss here is.",
        "",
        "| learner | here | d3rlpy | 95% interval of the difference |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        WITHOUT_REFERENCE,
        "",
    ]


def render_speed() -> list[str]:
    """Return the section on the time of an update, from what `learners_speed.py` found on each machine."""
    found = read_json(ROOT / "benchmarks" / "learners_speed.json", expected="what the benchmark found")
    return [
        "## Time of an update, beside d3rlpy's",
        "",
        "Milliseconds of the median round, and medians of the rounds' ratios, all interleaved with d3rlpy on one "
        f"thread. Networks of 62-256-256-25, {N_TRANSITIONS:,} transitions; 32 is d3rlpy's own size of batch. "
        "`compiled` is `--set runtime.compiled=true`, `bf16` products in bfloat16 (`--set runtime.precision=bf16`), "
        "`products` the matrix products of an update alone, in float32. Ratios of one run differ from another's by "
        "some tenths.",
        "",
        *(line for machine in found["machines"] for line in render_machine(machine)),
    ]


def render_machine(found: dict[str, Any]) -> list[str]:
    """Return the table of one machine, with what is reached there and what products alone forbid."""
    titles = {
        "ours": "here",
        "ours, compiled": "compiled",
        "ours, bf16": "bf16",
        "ours, bf16, compiled": "bf16, compiled",
        "products alone": "products",
    }
    measured = next(iter(found["batch_size"]["32"].values()))
    sides = [side for side in titles if f"ms, {side}" in measured]
    rows: list[str] = []
    places: dict[str, list[str]] = {"float32": [], "bf16": [], "not reached": [], "cannot be": []}
    for size, pairs in found["batch_size"].items():
        for name, times in pairs.items():
            ratios = {side: times[f"d3rlpy / {side}"] for side in sides}
            milliseconds = [times[f"ms, {side}"]["median"] for side in ("d3rlpy", *sides)]
            cells = [f"{value:.2f}" for value in milliseconds] + [f"{value:.1f}" for value in ratios.values()]
            rows.append(f"| {name} | {size} | {' | '.join(cells)} |")
            fast = [side for side, ratio in ratios.items() if ratio >= FAST]
            place = "cannot be" if not fast else "not reached" if fast == ["products alone"] else "bf16"
            if {"ours", "ours, compiled"} & set(fast):
                place = "float32"
            places[place].append(f"{name} at {size}")
    said = {place: ", ".join(names) or "none" for place, names in places.items()}
    heads = [
        "learner",
        "batch",
        "d3rlpy",
        *(titles[side] for side in sides),
        *(f"d3rlpy / {titles[side]}" for side in sides),
    ]
    in_bf16 = f", in bfloat16 besides by {said['bf16']}" if "ours, bf16" in sides else ""
    return [
        f"### {found['processor']}",
        "",
        f"{found['rounds']} rounds with d3rlpy {found['versions']['d3rlpy']}, beside other work of a mean load of "
        f"{max(found[LOAD] - found['threads'], 0):.0f}. Made by `python benchmarks/learners_speed.py --rounds "
        f"{found['rounds']}`.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{' --- |' * len(heads)}",
        *rows,
        "",
        f"{FAST} times d3rlpy's step is reached in float32, plain or compiled, by {said['float32']}{in_bf16}; it "
        f"is not by {said['not reached']}. It cannot be in float32 by {said['cannot be']}: there the matrix "
        "products alone take more than a fifth of d3rlpy's time.",
        "",
    ]


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


if __name__ == "__main__":
    main()
