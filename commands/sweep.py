"""`sepsis-cql sweep`: train and score many configurations, choose one on validation, freeze the choice."""

import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.table import Column

from sepsis_cql.commands.early import check_engine, check_out, check_replay
from sepsis_cql.commands.options import (
    Changes,
    Engine,
    EngineName,
    Force,
    ReplayPath,
    Resume,
    Rules,
    Runtime,
    find_runtime,
)
from sepsis_cql.commands.output import Bar, console, print_rows
from sepsis_cql.common.errors import StoppedError
from sepsis_cql.common.ownership import one_writer
from sepsis_cql.common.strict import find_settings, load_settings, parse_changes

if TYPE_CHECKING:
    from sepsis_cql.evaluation.validation_score import PolicyScorer
    from sepsis_cql.replay.directory import Replay
    from sepsis_cql.training.sweep.protocol import Sweep
    from sepsis_cql.training.sweep.ranking import Ranking


def sweep(
    replay: ReplayPath,
    out: Annotated[Path, typer.Option(help="Directory of the sweep.")],
    stage: Annotated[
        int | None,
        typer.Option(min=1, max=2, help="1: screen only. 2: repeat the best and choose. Default: both."),
    ] = None,
    metric: Annotated[
        Literal["fqe", "published"] | None,
        typer.Option(help="fqe: lower bound of fitted Q evaluation among softened policies with overlap."),
    ] = None,
    config: Annotated[str, typer.Option(help="The protocol: shipped, or a file.")] = "sweep",
    training: Annotated[
        str, typer.Option(help="Learner, and settings the grid does not name: shipped, or a file.")
    ] = "cql",
    evaluation: Rules = "evaluation",
    runtime: Runtime = None,
    changes: Changes = None,
    resume: Resume = False,
    force: Force = False,
    engine: Engine = "local",
) -> None:
    """Run the two-stage selection protocol and freeze the chosen policy in OUT/selection.json.

    --set takes the sections `sweep`, `training`, `evaluation` and `runtime`.
    """
    changed = parse_changes(changes or [], ["sweep", "training", "evaluation", "runtime"])
    if metric is not None:
        changed["sweep"]["metric"] = metric
    files = SweepFiles(
        find_settings(config, "grid"),
        find_settings(training, "algorithm"),
        find_settings(evaluation, "tilt_temperatures"),
    )
    inputs = [*files, *find_runtime(runtime)]
    check_replay(replay)
    check_engine(engine)
    force = force and stage != 2  # stage 2 starts from what stage 1 left in --out
    check_out(out, "sweep", resume=resume, force=force, inputs=[replay, *inputs])
    # imported here, because torch would slow down every other command
    from sepsis_cql.evaluation.test_split import check_splits
    from sepsis_cql.replay.directory import open_replay

    opened = open_replay(replay)
    with RunsBar(out) as bar:
        work, scorer = new_sweep(opened, out, files, runtime, changed, engine, bar.report)
        bar.expect(work.settings)
        check_splits(opened)
        with one_writer(out, "sweep"):
            try:
                # stage 1 makes only what is missing there
                work.open(resume=resume or stage == 2, force=force, inputs=inputs)
                scored = work.run_stage1()
                if stage != 1:
                    scored = work.run_stage2(scored)
                    selection = work.select(scored)
            except KeyboardInterrupt:
                raise StoppedError(f"Continue with --resume; runs are in {out}.") from None
    print_ranking(work.rank(scored), scorer.settings.bound)
    for name, reason in work.failures.items():
        console.print(f"[yellow]failed:[/] {name}: {escape(reason)}")
    if stage == 1:
        console.answer({"out": str(out), "n_runs": len(scored), "failed": work.failures})
        return
    chosen = selection.validation
    console.print(
        f"[green]✓[/] sweep: chose {chosen.run} by {chosen.metric}, out of {len(scored)} runs: {chosen.rule}"
    )
    if chosen.score is not None and not chosen.score.passes_gates:
        console.print(
            "[yellow]warning:[/] validation overlaps too little with the chosen policy to judge it: "
            + escape("; ".join(chosen.score.gates))
        )
    console.print(escape(str(out / "selection.json")))
    facts = selection.model_dump(mode="json")
    console.answer({"out": str(out), "n_runs": len(scored), "failed": work.failures, **facts})


class RunsBar(Bar):
    """Runs done, and the time that the others will take; a line for each where the output is no terminal."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            TextColumn("run {task.fields[done]} of {task.total:.0f}"),
            BarColumn(bar_width=12),
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        )
        self.total = 1
        self._directory, self._before = directory, self._count(directory)
        self._began = time.perf_counter()
        self._under_way: dict[
            str, tuple[Any, float]
        ] = {}  # each job, and how many of its runs' worth is done
        self._trained = self._before
        self._task = self.add_task("", total=None, done=0, visible=False)

    def expect(self, protocol: Any, *, further: int = 0) -> None:
        """Count the runs that a protocol will make, and some further ones."""
        grid = math.prod(map(len, protocol.grid.values()))
        n_new = len(set(protocol.stage2_seeds) - {protocol.stage1_seed})
        self.total = grid + min(protocol.top, grid) * n_new + further

    def report(self, job: Any, progress: Any) -> None:
        """Take in an epoch of a job of the sweep."""
        done = self._count(self._directory)
        if (name := job.runs[0].out.name) not in self._under_way:  # what a job goes on from cost no time here
            self._before += len(job.runs) * (progress.epoch - 1) / progress.epochs
        self._under_way[name] = job, len(job.runs) * progress.epoch / progress.epochs
        share = sum(share for job, share in self._under_way.values() if not job.is_done())
        spent, made = time.perf_counter() - self._began, max(done + share - self._before, 1e-9)
        left = max(self.total - done - share, 0) * spent / made
        text = f"about {_minutes(left)} left; {name}, epoch {progress.epoch} of {progress.epochs}"
        self.update(
            self._task,
            completed=done + share,
            total=self.total,
            description=text,
            done=min(done + 1, self.total),  # the run that is being made
            visible=True,
        )
        if progress.epoch == progress.epochs:
            self._trained += len(job.runs)
            if not console.is_terminal:
                console.print(f"run {self._trained} of {self.total}: {escape(text)}")

    @staticmethod
    def _count(directory: Path) -> int:
        return sum(1 for _ in directory.glob("runs/*/scores.json"))


class SweepFiles(NamedTuple):
    """The files of settings of a sweep."""

    protocol: Path
    training: Path
    evaluation: Path


def new_sweep(
    replay: "Replay",
    out: Path,
    files: SweepFiles,
    runtime: str | None,
    changes: dict[str, dict[str, Any]],
    engine: EngineName,
    report: Any,
    *,
    by_last_epoch: bool = False,
) -> tuple["Sweep", "PolicyScorer"]:
    """Return a sweep, not yet opened, and the scorer of its runs.

    `by_last_epoch` scores a run once, at its end, whatever the protocol says; `report` gets every epoch of a job.
    """
    import torch

    from sepsis_cql.evaluation.settings import EvaluationSettings
    from sepsis_cql.evaluation.validation_score import PolicyScorer
    from sepsis_cql.training.devices import find_device, load_runtime
    from sepsis_cql.training.learners.registry import load_training_settings
    from sepsis_cql.training.sweep.in_processes import run_in_processes
    from sepsis_cql.training.sweep.jobs import run_locally
    from sepsis_cql.training.sweep.on_ray import run_on_ray
    from sepsis_cql.training.sweep.protocol import Engine as Run
    from sepsis_cql.training.sweep.protocol import Sweep, SweepSettings

    base = load_training_settings(files.training, changes["training"])
    settings = load_settings(SweepSettings, files.protocol, changes["sweep"])
    if by_last_epoch:
        settings = settings.model_copy(update={"score_epochs": base.epochs})
    rules = load_settings(EvaluationSettings, files.evaluation, changes["evaluation"])
    device = load_runtime(runtime, changes["runtime"])
    found = find_device(device)
    run: Run = run_locally
    if engine == "ray":
        run, device = run_on_ray, device.model_copy(update={"threads": device.threads or 1})
    if run is run_locally and found.type == "cpu" and device.runs_per_model == 1:
        run = partial(run_in_processes, device.threads or torch.get_num_threads())
        device = device.model_copy(update={"threads": 1})
    scorer = PolicyScorer(replay, rules, found)
    return Sweep(replay, out, settings, base, device, scorer, engine=run, report=report), scorer


def print_ranking(ranking: "Ranking", bound: float) -> None:
    """Print the ten best runs with both metrics; max Q, in doubt beyond `bound`, is what the original calls FQE."""
    from sepsis_cql.evaluation.report.results import say_published

    rows = [
        (
            f"{run.name}, epoch {best.epoch}",
            f"{best.fqe:.2f} [{best.fqe_lower:.2f}, {best.fqe_upper:.2f}]",
            f"{best.ess:.1f}",
            "yes" if best.passes_gates else "no",
            say_published(best.published_fqe, bound),
            best.softening,
        )
        for run in ranking.ordered()[:10]
        for best in [run.best(ranking.metric)]
    ]
    print_rows(("run", "FQE (95% interval)", "ESS", "overlap", "max Q", "judged as"), rows)
    order = (
        "by max Q" if ranking.metric == "published" else "overlap first, then the lower end of the interval"
    )
    console.print(f"best first, {order}; a configuration counts as its seeds together do")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
