"""The two-stage selection protocol: screen every configuration, repeat the best with more seeds, choose one."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from sepsis_cql.common.errors import TrainingError
from sepsis_cql.common.provenance import git_commit
from sepsis_cql.common.storage import open_directory, read_json, replaced_directory, sha256_json, write_json
from sepsis_cql.common.strict import Settings, explain
from sepsis_cql.replay.directory import Replay
from sepsis_cql.training.checkpoint import refuse_differences
from sepsis_cql.training.data import load_training_data
from sepsis_cql.training.learners.registry import parse_settings
from sepsis_cql.training.loop import Progress
from sepsis_cql.training.records import Metric
from sepsis_cql.training.run import Run, shared_settings
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings
from sepsis_cql.training.sweep.jobs import Job, Scorer, read_scores, run_locally, write_run_at_best_epoch
from sepsis_cql.training.sweep.ranking import Ranking, ScoredRun
from sepsis_cql.training.sweep.selection import Evidence, Selection, freeze_selection

Report = Callable[[Job, Progress], None]
Engine = Callable[[Sequence[Job], Report], Iterator[tuple[Job, dict[str, str]]]]


class SweepSettings(Settings):
    """The selection protocol: `configs/sweep.yaml`; the grid may vary any setting of the learner."""

    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(min_length=1)
    stage1_seed: int
    top: int = Field(ge=1)
    stage2_seeds: list[int] = Field(min_length=1)
    score_epochs: int = Field(ge=1)
    metric: Metric


class Sweep:
    """A sweep in its directory: keeps the runs that are there and trains those that are missing.

    Attributes:
        failures: reason of each run that failed, by name.
    """

    def __init__(
        self,
        replay: Replay,
        out: Path,
        settings: SweepSettings,
        base: TrainingSettings,
        runtime: RuntimeSettings,
        scorer: Scorer,
        *,
        engine: Engine = run_locally,
        report: Report = lambda job, progress: None,
    ) -> None:
        """Describe a sweep; nothing is read or written yet.

        `base` are the hyper-parameters that the grid does not name, `engine` runs jobs, here or elsewhere, and `report`
        is called after every epoch of one.
        """
        self.settings, self.failures = settings, dict[str, str]()
        self._replay, self._out, self._runtime, self._scorer = replay, out, runtime, scorer
        self._engine, self._report = engine, report
        self._check_grid(base)
        self._base = base.model_copy(update={"checkpoint_epochs": settings.score_epochs})
        self._reward_variants = sorted(set(settings.grid.get("reward_variant", [base.reward_variant])))
        self._job_of: dict[str, Job] = {}
        self._check_names()

    def open(self, *, resume: bool, force: bool, inputs: Sequence[Path | str] = ()) -> None:
        """Make the directory, or check that it holds this very sweep; the caller holds its lock.

        Raises:
            SepsisCQLError: it holds something else, or `resume` was not asked for.
        """
        identity = {
            "sweep": self.settings.model_dump(exclude={"metric"}),
            "training": self._base.model_dump(),
            "data": load_training_data(self._replay, self._reward_variants).facts().model_dump(mode="json"),
            "runtime": self._runtime.model_dump(),
        }
        file = self._out / "sweep.json"
        open_directory(self._out, "sweep", resume=resume, force=force, inputs=[self._replay.path, *inputs])
        if not file.exists():
            write_json(file, identity | {"git_commit": git_commit()})
            return
        found = read_json(file, expected="the settings of the sweep to resume")
        if not isinstance(found, dict):
            raise TrainingError(
                f"{file}: found {type(found).__name__}, expected the settings of the sweep to resume."
            )
        found.pop("git_commit", None)
        refuse_differences(f"{self._out}: holds another sweep", found, identity)

    def run_stage1(self) -> list[ScoredRun]:
        """Train and score every configuration with one seed; writes `stage1_evaluation.json`."""
        runs = [self._run(values, self.settings.stage1_seed) for values in self._configurations()]
        scored = self._required(runs, "stage1")
        evaluation = self.rank(scored).stage_evaluation(1, top=self.settings.top)
        write_json(self._out / "stage1_evaluation.json", evaluation | {"failed": self.failures})
        return scored

    def run_stage2(self, stage1: list[ScoredRun]) -> list[ScoredRun]:
        """Repeat the best configurations with every seed; writes the two files of stage 2.

        A run that stage 1 already made is not made again: same settings, same seed, same weights.
        """
        ranking = self.rank(stage1)
        top = [group[0] for group in ranking.configurations()[: self.settings.top]]
        known = {run.name: run for run in stage1}
        runs = [
            self._run(ranking.configuration(run), seed) for run in top for seed in self.settings.stage2_seeds
        ]
        new = [run for run in runs if run.out.name not in known]
        before = [known[run.out.name] for run in runs if run.out.name in known]
        key = sha256_json(sorted(run.out.name for run in new))[:8]  # another choice of runs, other jobs
        scored = before + (self._required(new, f"stage2_{key}") if new else [])
        ranking = self.rank(scored)
        evaluation = ranking.stage_evaluation(2, top=self.settings.top)
        write_json(self._out / "stage2_evaluation.json", evaluation | {"failed": self.failures})
        multiseed = ranking.multiseed_validation(self.settings.stage2_seeds)
        write_json(self._out / "stage2_multiseed_validation.json", multiseed)
        return scored

    def run_reference(self, reference: dict[str, Any]) -> ScoredRun | None:
        """Train and score one further run, whatever was chosen; None where it fails.

        Args:
            reference: a value for every setting of the grid, and the seed.
        """
        names = {*self.settings.grid, "seed"}
        if set(reference) != names:
            raise TrainingError(
                f"reference: found {sorted(reference)}, expected the grid's settings and the seed: {sorted(names)}."
            )
        run = self._run({name: reference[name] for name in self.settings.grid}, reference["seed"])
        scored = self._run_all([run], "reference")
        return scored[0] if scored else None

    def select(self, scored: list[ScoredRun]) -> Selection:
        """Write the chosen run at its best epoch to `selected/` and freeze it in `selection.json`."""
        ranking = self.rank(scored)
        chosen = ranking.chosen()
        evidence = Evidence(
            rule="the best seed of the configuration that leads over all its seeds",
            metric=self.settings.metric,
            run=chosen.name,
            score=chosen.best(self.settings.metric),
            n_runs_compared=len(scored),
            failed=self.failures,
        )
        with replaced_directory(self._out / "selected") as directory:
            write_run_at_best_epoch(self._job_of[chosen.name], chosen, self.settings.metric, directory)
            return freeze_selection(directory, evidence, self._out / "selection.json")

    def rank(self, scored: Sequence[ScoredRun], metric: Metric | None = None) -> Ranking:
        """Order runs by the sweep's metric, or by another one."""
        return Ranking(scored, list(self.settings.grid), metric or self.settings.metric)

    def _check_grid(self, base: TrainingSettings) -> None:
        fields = set(type(base).model_fields) - {"algorithm", "seed", "checkpoint_epochs", "keep_checkpoints"}
        if unknown := sorted(set(self.settings.grid) - fields):
            raise TrainingError(
                f"sweep.grid: {unknown} cannot vary for {base.algorithm}; expected settings of {sorted(fields)}."
            )

    def _check_names(self) -> None:
        """Refuse runs that would share a directory, before the first of them is trained."""
        seeds = self.settings.stage2_seeds
        names = [self._run(values, seed).out.name for values in self._configurations() for seed in seeds]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise TrainingError(
                f"sweep: found more than one run {', '.join(repeated[:3])}, expected one of each name. Give each seed "
                "once, and values of the grid that differ in their first six digits."
            )

    def _configurations(self) -> list[dict[str, Any]]:
        grid = self.settings.grid
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]

    def _run(self, configuration: dict[str, Any], seed: int) -> Run:
        try:
            settings = parse_settings(self._base.model_dump() | configuration | {"seed": seed})
        except ValidationError as error:
            raise TrainingError(f"sweep.grid: {explain(error)}. Correct the value, or remove it.") from error
        all_scored = {"keep_checkpoints": ceil(settings.epochs / self.settings.score_epochs)}
        parts = [_name_of(name, getattr(settings, name)) for name in configuration]
        out = self._out / "runs" / "_".join([*parts, f"seed{seed}"])
        return Run(settings.model_copy(update=all_scored), out)

    def _run_all(self, runs: list[Run], name: str) -> list[ScoredRun]:
        jobs = [
            Job(
                runs=together,
                checkpoints=self._out / "jobs" / f"{name}_{number:02d}",
                replay=self._replay,
                reward_variants=self._reward_variants,
                runtime=self._runtime,
                scorer=self._scorer,
            )
            for number, together in enumerate(_group(runs, self._runtime.runs_per_model))
        ]
        # the first job of a run is the one that trained it, and has its checkpoints
        self._job_of = {run.out.name: job for job in jobs for run in job.runs} | self._job_of
        for _, failures in self._engine([job for job in jobs if not job.is_done()], self._report):
            self.failures |= failures
        return [read_scores(run) for run in runs if run.out.name not in self.failures]

    def _required(self, runs: list[Run], name: str) -> list[ScoredRun]:
        """Train and score the runs of a stage, of which one at least must not fail."""
        scored = self._run_all(runs, name)
        if not scored:
            reasons = "; ".join(sorted(set(self.failures.values())))
            raise TrainingError(f"{self._out}: all {len(runs)} runs of {name} failed: {reasons}")
        return scored


def _group(runs: list[Run], size: int) -> list[list[Run]]:
    """Return groups of runs that may train together, at most `size` in each."""
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(shared_settings(run.settings), []).append(run)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _name_of(name: str, value: Any) -> str:
    """Return a part of a directory's name: `sparse`, `lr0.0001`, `alpha0.5`, `hidden_sizes64-64`."""
    text = f"{value:g}" if isinstance(value, float) else re.sub(r"[^\w.]+", "-", str(value)).strip("-")
    return {"reward_variant": "", "learning_rate": "lr"}.get(name, name) + text
