"""The two-stage selection protocol: screen every configuration, repeat the best with more seeds, choose one."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

from pydantic import Field

from sepsis_cql.configs.loading import Settings
from sepsis_cql.errors import TrainingError
from sepsis_cql.provenance import git_commit
from sepsis_cql.storage import new_directory, read_json, sha256_json, write_json
from sepsis_cql.training.checkpoint import list_differences
from sepsis_cql.training.data import load_training_data
from sepsis_cql.training.loop import Progress
from sepsis_cql.training.ranking import (
    Metric,
    ScoredRun,
    choose_run,
    multiseed_validation,
    rank_configurations,
    run_row,
    stage_evaluation,
)
from sepsis_cql.training.selection import freeze_selection
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings
from sepsis_cql.training.stacks import Scorer, Stack, read_scores, run_locally, write_run_at_best_epoch
from sepsis_cql.training.train import Run

Report = Callable[[Stack, Progress], None]
Engine = Callable[[Sequence[Stack], Report], Iterator[tuple[Stack, dict[str, str]]]]


class Grid(Settings):
    """Values whose combinations are the configurations."""

    reward_variant: list[str] = Field(min_length=1)
    learning_rate: list[float] = Field(min_length=1)
    alpha: list[float] = Field(min_length=1)


class SweepSettings(Settings):
    """`configs/sweep.yaml`."""

    grid: Grid
    stage1_seed: int
    top: int = Field(ge=1)
    stage2_seeds: list[int] = Field(min_length=1)
    score_epochs: int = Field(ge=1)
    metric: Metric


class Sweep:
    """A sweep in its directory: what is there is kept, what is missing is trained.

    Attributes:
        failures: reason of each run that failed, by name.
    """

    def __init__(
        self,
        replay: Path,
        out: Path,
        settings: SweepSettings,
        base: TrainingSettings,
        runtime: RuntimeSettings,
        scorer: Scorer,
        *,
        engine: Engine = run_locally,
        report: Report = lambda stack, progress: None,
    ) -> None:
        """Describe a sweep; nothing is read or written yet.

        Args:
            replay: directory with a training and a validation split.
            out: the sweep's directory.
            settings: of the protocol.
            base: hyper-parameters that the grid does not name.
            runtime: device, and how many runs train as one stack.
            scorer: evaluates a policy on validation data.
            engine: runs stacks, here or elsewhere.
            report: called after every epoch of a stack.
        """
        self.settings, self.failures = settings, dict[str, str]()
        self._replay, self._out, self._runtime, self._scorer = replay, out, runtime, scorer
        self._engine, self._report = engine, report
        self._base = base.model_copy(
            update={
                "checkpoint_epochs": settings.score_epochs,
                "keep_checkpoints": ceil(base.epochs / settings.score_epochs),
            }
        )
        self._reward_variants = sorted(set(settings.grid.reward_variant))
        self._stack_of: dict[str, Stack] = {}

    def open(self, *, resume: bool, force: bool) -> None:
        """Make the directory, or check that it holds this very sweep.

        Raises:
            TrainingError: it holds something else, or `resume` was not asked for.
        """
        if force and not resume:
            shutil.rmtree(self._out, ignore_errors=True)
        identity = {
            "sweep": self.settings.model_dump(exclude={"metric"}),
            "training": self._base.model_dump(),
            "data": load_training_data(self._replay, self._reward_variants).facts(),
            "runtime": self._runtime.model_dump(),
        }
        file = self._out / "sweep.json"
        if not self._out.exists() or not any(self._out.iterdir()):
            write_json(file, identity | {"git_commit": git_commit()})
            return
        if not resume:
            raise TrainingError(
                f"{self._out}: already holds files. Use --resume to continue that sweep, --force to replace it, "
                "or another --out."
            )
        found = read_json(file, expected="the settings of the sweep to resume")
        found.pop("git_commit")
        if differences := list_differences(found, identity):
            raise TrainingError(
                f"{self._out}: holds another sweep: {'; '.join(differences)}. Repeat its settings, or start anew "
                "with --force or another --out."
            )

    def run_stage1(self) -> list[ScoredRun]:
        """Train and score every configuration with one seed; writes `stage1_evaluation.json`."""
        grid = self.settings.grid
        combinations = product(grid.reward_variant, grid.learning_rate, grid.alpha)
        runs = [self._run(configuration, self.settings.stage1_seed) for configuration in combinations]
        scored = self._run_all(runs, "stage1")
        evaluation = stage_evaluation(1, scored, self.settings.metric, top=self.settings.top)
        write_json(self._out / "stage1_evaluation.json", evaluation | {"failed": self.failures})
        return scored

    def run_stage2(self, stage1: list[ScoredRun]) -> list[ScoredRun]:
        """Repeat the best configurations with every seed; writes the two files of stage 2.

        A run that stage 1 already made is not made again: same settings, same seed, same weights.
        """
        metric = self.settings.metric
        top = [group[0] for group in rank_configurations(stage1, metric)[: self.settings.top]]
        known = {run.name: run for run in stage1}
        runs = [self._run(run.configuration, seed) for run in top for seed in self.settings.stage2_seeds]
        new = [run for run in runs if run.out.name not in known]
        before = [known[run.out.name] for run in runs if run.out.name in known]
        key = sha256_json(sorted(run.out.name for run in new))[:8]  # another choice of runs, other stacks
        scored = before + (self._run_all(new, f"stage2_{key}") if new else [])
        evaluation = stage_evaluation(2, scored, metric, top=self.settings.top)
        write_json(self._out / "stage2_evaluation.json", evaluation | {"failed": self.failures})
        multiseed = multiseed_validation(scored, metric, self.settings.stage2_seeds)
        write_json(self._out / "stage2_multiseed_validation.json", multiseed)
        return scored

    def select(self, scored: list[ScoredRun]) -> dict[str, Any]:
        """Write the chosen run at its best epoch to `selected/` and freeze it in `selection.json`."""
        metric = self.settings.metric
        chosen = choose_run(scored, metric)
        evidence = {
            "metric": metric,
            "run": chosen.name,
            "passes_gates": chosen.best(metric).passes_gates,
            "configuration": run_row(chosen, metric),
            "n_runs_compared": len(scored),
            "failed": self.failures,
        }
        with new_directory(self._out / "selected", force=True) as directory:
            write_run_at_best_epoch(self._stack_of[chosen.name], chosen, metric, directory)
            return freeze_selection(directory, evidence, self._out / "selection.json")

    def _run(self, configuration: tuple[str, float, float], seed: int) -> Run:
        variant, learning_rate, alpha = configuration
        settings = TrainingSettings.model_validate(
            self._base.model_dump()
            | {"reward_variant": variant, "learning_rate": learning_rate, "alpha": alpha, "seed": seed}
        )
        name = f"{variant}_lr{learning_rate:g}_alpha{alpha:g}_seed{seed}"
        return Run(settings, self._out / "runs" / name)

    def _run_all(self, runs: list[Run], name: str) -> list[ScoredRun]:
        size = self._runtime.stack
        stacks = [
            Stack(
                runs=runs[start : start + size],
                checkpoints=self._out / "stacks" / f"{name}_{start:02d}",
                replay=self._replay,
                reward_variants=self._reward_variants,
                runtime=self._runtime,
                scorer=self._scorer,
            )
            for start in range(0, len(runs), size)
        ]
        self._stack_of |= {run.out.name: stack for stack in stacks for run in stack.runs}
        for _, failures in self._engine([stack for stack in stacks if not stack.is_done()], self._report):
            self.failures |= failures
        scored = [read_scores(run) for run in runs if run.out.name not in self.failures]
        if not scored:
            reasons = "; ".join(sorted(set(self.failures.values())))
            raise TrainingError(f"{self._out}: all {len(runs)} runs of {name} failed: {reasons}")
        return scored
