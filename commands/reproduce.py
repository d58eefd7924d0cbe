"""`sepsis-cql reproduce`: every stage in order, from tables to an exported model package."""

import resource
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from sepsis_cql.commands.audit import audit
from sepsis_cql.commands.build import build
from sepsis_cql.commands.early import check_engine, check_mimic
from sepsis_cql.commands.evaluate import evaluate, print_metrics
from sepsis_cql.commands.options import (
    Again,
    Changes,
    Engine,
    EngineName,
    Force,
    Ledger,
    Why,
    list_files,
)
from sepsis_cql.commands.output import Work, console, new_table, print_table
from sepsis_cql.commands.publish import card, export
from sepsis_cql.commands.study import (
    EVALUATION,
    SELECTION,
    SWEEP,
    TRAINING,
    Request,
    StudySettings,
    load_study_settings,
    open_request,
    print_choices,
    run_study,
    sha256_of_code,
)
from sepsis_cql.commands.sweep import print_ranking
from sepsis_cql.commands.synthesize import synthesize
from sepsis_cql.common.errors import SettingsError, StoppedError, TableError
from sepsis_cql.common.ownership import one_writer
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import parse_changes, write_changes

if TYPE_CHECKING:
    from sepsis_cql.publishing.verify import TestUse


Data = Literal["auto", "synthetic", "demo", "mimic-iv"]  # `auto`: what --mimic has, or else the synthetic ICU
SOURCES = {"synthetic": "synthetic", "demo": "mimic-iv-demo", "mimic-iv": "mimic-iv"}
SECTIONS = ("study", "synthetic", "replay", "sweep", "training", "runtime", "evaluation")

NEXT = {
    "Read the verdict and its reasons in a browser:": "{0}/evaluation/report.html",
    "See what may be published, and why:": "{1} push OWNER/NAME --run {0} --dry-run",
    "Check the export as its readers would:": "{1} verify {0}/export",
    "Make a Space of the explorer that the report leads to:": "{1} export --run {0} --out SPACE --format space",
}


class Stages:
    """Announces stages and remembers what each took."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float]] = []  # name, seconds, peak MiB of the process so far

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run one stage, and note its wall time and the peak memory at its end."""
        console.rule(f"{len(self.rows) + 1} {name}", align="left")
        began = time.perf_counter()
        yield
        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        self.rows.append((name, time.perf_counter() - began, peak))

    def table(self) -> Table:
        """Return wall time and peak memory of every stage."""
        table = new_table("stage", "seconds", "peak memory so far, MiB")
        for name, seconds, peak in self.rows:
            table.add_row(name, f"{seconds:.1f}", f"{peak:,.0f}")
        table.add_row("all", f"{sum(seconds for _, seconds, _ in self.rows):.1f}", "")
        return table


def reproduce(
    out: Annotated[Path, typer.Option(help="Directory of the study.")],
    size: Annotated[
        str | None,
        typer.Option(
            help="small, published, or a file of your own; by default published for MIMIC-IV, else small."
        ),
    ] = None,
    data: Annotated[
        Data, typer.Option(help="Tables to start from; auto: --mimic if given, else synthetic.")
    ] = "auto",
    mimic: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="MIMIC-IV, as for `build`; the demo is downloaded without it."),
    ] = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="Patients of the synthetic ICU, instead of the size's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the synthetic ICU, likewise.")] = None,
    engine: Engine = "local",
    changes: Changes = None,
    ledger: Ledger = None,
    again: Again = False,
    why: Why = None,
    force: Force = False,
) -> None:
    """Walk the whole study: tables, build, both stages of the protocol, frozen choice, test split, audit, card, export.

    The same command goes on where it was stopped. --set takes the sections `study`, `synthetic`, `replay`, `sweep`,
    `training`, `runtime` and `evaluation`.
    """
    data = _choose(data, mimic)
    changed = parse_changes(changes or [], SECTIONS)
    own = {"patients": patients, "seed": seed}
    changed["study"] |= {name: value for name, value in own.items() if value is not None}
    names = [size] if size else ["small"] if data == "synthetic" else ["small", "published"]
    study = {name: load_study_settings(name, changed["study"]) for name in names}
    own_file = size if size and size.endswith((".yaml", ".yml")) else None
    check_mimic(mimic)
    check_engine(engine)
    from sepsis_cql.replay.mimic.sources.registry import name_place

    request = Request(
        data=data,
        mimic=mimic and name_place(mimic),
        size=size,
        study=study,
        changes=sorted(changes or []),
        code=sha256_of_code(),
    )
    with one_writer(out, "reproduce"):
        open_request(out, request, force=force, inputs=list_files(mimic, ledger, own_file))
        from sepsis_cql.publishing.verify import TestUse  # imports torch

        try:
            _walk(out, data, mimic, study, changes, changed, TestUse(ledger, again, why), engine)
        except KeyboardInterrupt:
            raise StoppedError(f"The same command goes on; what is finished is in {out}.") from None


def _walk(
    out: Path,
    data: Data,
    mimic: str | None,
    study: dict[str, StudySettings],
    changes: list[str] | None,
    changed: dict[str, dict[str, Any]],
    use: "TestUse",
    engine: EngineName,
) -> None:
    """Make every stage that is not there yet; each appears whole or, the sweep, goes on by itself."""
    replay, evaluation = out / "replay", out / EVALUATION
    stages = Stages()
    if mimic is None:
        mimic = str(out / "tables")
        if not (out / "tables").exists():
            with stages.stage("tables"):
                _make_tables(data, out / "tables", next(iter(study.values())), _of(changes, "synthetic"))
    if not replay.exists():
        with stages.stage("build"):
            build(mimic=mimic, out=replay, changes=_of(changes, "replay"))
    from sepsis_cql.evaluation.record import load_evaluation
    from sepsis_cql.replay.directory import open_replay

    opened = open_replay(replay)
    source = opened.source.name
    _check_source(source, data)
    size = next(iter(study)) if len(study) == 1 else "published" if source == SOURCES["mimic-iv"] else "small"
    with stages.stage("train and choose"):
        sweep, scorer, runs = run_study(out, opened, study[size], changed, engine)
        print_ranking(sweep.rank(runs[1]), scorer.settings.bound)
    if not evaluation.exists():
        with stages.stage("evaluate"):
            evaluate(
                policy=str(out / TRAINING / "package"),
                replay=replay,
                out=evaluation,
                split="test",
                selection=out / SELECTION,
                ledger=use.ledger or _own_ledger(out, source),
                again=use.again,
                why=use.why,
                changes=_of(changes, "evaluation"),
            )
    with stages.stage("compare the choices"):
        print_choices(_describe(out, size, sweep, scorer, runs), scorer.settings.bound)
    if not (out / "audit").exists():
        with stages.stage("audit"):
            audit(run=out)
    with stages.stage("card"):
        card(run=out, out=out / "card", force=True)
    with stages.stage("export"):
        export(run=out, out=out / "export", force=True)
    console.rule("results", align="left")
    print_metrics(evaluation)
    print_table(stages.table())
    for name in ("replay", SWEEP, TRAINING, EVALUATION, "card", "export"):
        console.print(f"{name:<12}{escape(str(out / name))}")
    console.rule("what next", align="left")
    place, program = shlex.quote(str(out)), shlex.quote(_name_program(sys.argv[0]))
    for what, command in NEXT.items():
        console.print(f"{what}\n  {escape(command.format(place, program))}")
    console.answer(
        {
            "out": str(out),
            "verdict": load_evaluation(evaluation).verdict.model_dump(mode="json"),
            "stages": [
                {"name": name, "seconds": seconds, "peak_mib": peak} for name, seconds, peak in stages.rows
            ],
        }
    )


def _describe(out: Path, size: str, sweep: Any, scorer: Any, runs: list[Any]) -> Any:
    """Play every run where the truth is known, and write the record of the study."""
    from sepsis_cql.evaluation.data import REWARD_VARIANT
    from sepsis_cql.evaluation.study import RECORD, describe_study, load_study, play_run
    from sepsis_cql.evaluation.truth import play
    from sepsis_cql.synthetic.truth import open_truth

    if (out / RECORD).exists():
        return load_study(out)
    truth = open_truth(scorer.replay)
    expected = len({run.name for part in (*runs[:2], [runs[2]] if runs[2] else []) for run in part})
    with Work("compare" if truth is None else "true value") as work:

        def truth_of(run: Any) -> Any:
            nonlocal expected
            expected -= 1
            work(run.name, expected)
            return play_run(out / SWEEP / "runs" / run.name, run.best(sweep.settings.metric), scorer, truth)

        clinicians = None if truth is None else play(truth.behavior, truth, scorer.settings)[0]
        scored = scorer.replay.transitions("validation", REWARD_VARIANT)
        study = describe_study(sweep, size, runs[:2], runs[2], truth_of, clinicians, scored)
    write_json(out / RECORD, study.model_dump(mode="json"))
    return study


def _name_program(called: str) -> str:
    """Return how a shell finds this command: by name, or as it was called where only `make` knows its environment."""
    name = "sepsis-cql"
    return called if shutil.which(name) is None and Path(called).name == name else name


def _own_ledger(out: Path, source: str) -> Path | None:
    """Return a ledger inside the run where its test split is simulated or the open demo's, and None for patients.

    Whoever repeats the main job with other settings looks at nothing that was held back; the user's own ledger is for
    credentialed records.
    """
    return None if source == SOURCES["mimic-iv"] else out / "ledger"


def _choose(data: Data, mimic: str | None) -> Data:
    if data == "auto" and mimic is None:
        return "synthetic"
    if data == "mimic-iv" and mimic is None:
        raise SettingsError("--data mimic-iv: needs --mimic, the folder of the release you downloaded.")
    if data == "synthetic" and mimic is not None:
        raise SettingsError("--data synthetic: makes its own tables; leave --mimic away.")
    return data


def _of(changes: list[str] | None, *sections: str) -> list[str]:
    """The changes of some sections, for the command that has them."""
    return [line for line in changes or [] if line.split(".")[0].strip() in sections]


def _make_tables(data: Data, out: Path, study: StudySettings, changes: list[str]) -> None:
    if data == "synthetic":
        changes = [*write_changes("synthetic", study.synthetic), *changes]  # the later ones win
        synthesize(out=out, patients=study.patients, seed=study.seed, changes=changes)
        return
    from sepsis_cql.replay.interop.demo_download import download_demo, load_demo_settings

    settings = load_demo_settings()
    console.print(escape(settings.notice))
    with console.status("download") as status:
        download_demo(out, settings, announce=lambda name: status.update(f"download: {name}"))
    console.print(f"[green]✓[/] downloaded {len(settings.files)} files, each as published")


def _check_source(found: str, data: Data) -> None:
    if data != "auto" and found != SOURCES[data]:
        raise TableError(
            f"--data {data}: the tables are {found}. Give another --mimic, or leave --data away."
        )
