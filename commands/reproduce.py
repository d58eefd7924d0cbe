"""`sepsis-cql reproduce`: every stage in order, from tables to an exported model package."""

import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from sepsis_cql.commands.build import build
from sepsis_cql.commands.early import check_mimic
from sepsis_cql.commands.evaluate import Split, evaluate, print_metrics
from sepsis_cql.commands.options import Changes, Force, Ledger, console, list_files
from sepsis_cql.commands.publish import card, export
from sepsis_cql.commands.synthesize import synthesize
from sepsis_cql.commands.train import train
from sepsis_cql.common.errors import SettingsError, TableError
from sepsis_cql.common.ownership import check_new_directory, one_writer, write_mark
from sepsis_cql.common.strict import parse_changes


class Data(StrEnum):
    """Where the tables come from; `auto` is the folder in --mimic, or else the synthetic ICU."""

    AUTO = "auto"
    SYNTHETIC = "synthetic"
    DEMO = "demo"
    MIMIC_IV = "mimic-iv"


SOURCES = {Data.SYNTHETIC: "synthetic", Data.DEMO: "mimic-iv-demo", Data.MIMIC_IV: "mimic-iv"}
SELECTION = "selection.json"
SECTIONS = ("synthetic", "replay", "training", "runtime", "evaluation")


class TestUse(NamedTuple):
    """How a test split may be read once more."""

    ledger: Path | None
    again: bool
    why: str | None


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
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.rows.append((name, time.perf_counter() - began, peak))

    def table(self) -> Table:
        """Wall time and peak memory of every stage."""
        table = Table("stage", "seconds", "peak memory so far, MiB")
        for name, seconds, peak in self.rows:
            table.add_row(name, f"{seconds:.1f}", f"{peak:,.0f}")
        table.add_row("all", f"{sum(seconds for _, seconds, _ in self.rows):.1f}", "")
        return table


def reproduce(
    out: Annotated[Path, typer.Option(help="Directory of the run.")],
    data: Annotated[
        Data, typer.Option(help="Tables to start from; auto: --mimic if given, else synthetic.")
    ] = Data.AUTO,
    mimic: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="MIMIC-IV, as for `build`; the demo is downloaded without it."),
    ] = None,
    patients: Annotated[int, typer.Option(min=1, help="Patients of the synthetic ICU.")] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic ICU.")] = 1,
    changes: Changes = None,
    ledger: Ledger = None,
    again: Annotated[bool, typer.Option("--again", help="Score a further policy on the test split.")] = False,
    why: Annotated[str | None, typer.Option(help="Reason for --again, shown on the card.")] = None,
    force: Force = False,
) -> None:
    """Walk all stages: tables (made or given), build, train, evaluate, card, export.

    --set takes the sections `synthetic`, `replay`, `training`, `runtime` and `evaluation`.
    """
    data = _choose(data, mimic)
    parse_changes(changes or [], SECTIONS)
    check_mimic(mimic)
    with one_writer(out, "reproduce"):
        check_new_directory(out, "reproduce", force=force, inputs=list_files(mimic, ledger))
        out.mkdir(parents=True, exist_ok=True)
        write_mark(out, "reproduce")
        _walk(out, data, mimic, patients, seed, changes, TestUse(ledger, again, why), force=force)


def _walk(
    out: Path,
    data: Data,
    mimic: str | None,
    patients: int,
    seed: int,
    changes: list[str] | None,
    use: TestUse,
    *,
    force: bool,
) -> None:
    from sepsis_cql.replay.directory import open_replay

    replay, training, evaluation = out / "replay", out / "training", out / "evaluation"
    stages = Stages()
    if mimic is None:
        mimic = str(out / "tables")
        with stages.stage("tables"):
            _make_tables(data, out / "tables", patients, seed, _of(changes, "synthetic"), force=force)
    with stages.stage("build"):
        build(mimic=mimic, out=replay, changes=_of(changes, "replay"), force=force)
        source = open_replay(replay).source.name
        _check_source(source, data)
    with stages.stage("train"):
        config = "cql_synthetic" if source == SOURCES[Data.SYNTHETIC] else "cql"
        train(
            replay=replay,
            out=training,
            config=config,
            changes=_of(changes, "training", "runtime"),
            force=force,
        )
        _freeze(training, out / SELECTION, config)
    with stages.stage("evaluate"):
        evaluate(
            policy=str(training / "package"),
            replay=replay,
            out=evaluation,
            split=Split.TEST,
            selection=out / SELECTION,
            ledger=use.ledger or _own_ledger(out, source, force=force),
            again=use.again,
            why=use.why,
            changes=_of(changes, "evaluation"),
            force=force,
        )
    with stages.stage("card"):
        card(run=out, out=out / "card", force=force)
    with stages.stage("export"):
        export(run=out, out=out / "export", force=force)
    console.rule("results", align="left")
    print_metrics(evaluation)
    console.print(stages.table())
    for name in ("replay", "training", "evaluation", "card", "export"):
        console.print(f"{name:<12}{escape(str(out / name))}")


def _own_ledger(out: Path, source: str, *, force: bool) -> Path | None:
    """Return a ledger inside the run where its test split is simulated or the open demo's, and None for patients.

    Whoever repeats the main job with other settings looks at nothing that was held back; the user's own ledger is for
    credentialed records.
    """
    if source == SOURCES[Data.MIMIC_IV]:
        return None
    ledger = out / "ledger"
    if force:
        shutil.rmtree(ledger, ignore_errors=True)
    return ledger


def _choose(data: Data, mimic: str | None) -> Data:
    if data is Data.AUTO and mimic is None:
        return Data.SYNTHETIC
    if data is Data.MIMIC_IV and mimic is None:
        raise SettingsError("--data mimic-iv: needs --mimic, the folder of the release you downloaded.")
    if data is Data.SYNTHETIC and mimic is not None:
        raise SettingsError("--data synthetic: makes its own tables; leave --mimic away.")
    return data


def _of(changes: list[str] | None, *sections: str) -> list[str]:
    """The changes of some sections, for the command that has them."""
    return [line for line in changes or [] if line.split(".")[0].strip() in sections]


def _make_tables(data: Data, out: Path, patients: int, seed: int, changes: list[str], *, force: bool) -> None:
    if data is Data.SYNTHETIC:
        synthesize(out=out, patients=patients, seed=seed, changes=changes, force=force)
        return
    from sepsis_cql.replay.interop.demo_download import download_demo, load_demo_settings

    settings = load_demo_settings()
    console.print(escape(settings.notice))
    with console.status("download") as status:
        download_demo(out, settings, force=force, announce=lambda name: status.update(f"download: {name}"))
    console.print(f"[green]✓[/] downloaded {len(settings.files)} files, each as published")


def _check_source(found: str, data: Data) -> None:
    if data is not Data.AUTO and found != SOURCES[data]:
        raise TableError(
            f"--data {data}: the tables are {found}. Give another --mimic, or leave --data away."
        )


def _freeze(training: Path, selection: Path, config: str) -> None:
    """Write down the choice before the test split is read: one configuration, so there was none to make."""
    from sepsis_cql.training.sweep.selection import Evidence, freeze_selection

    selection.unlink(missing_ok=True)
    rule = f"the one configuration of configs/{config}.yaml; nothing was compared"
    freeze_selection(training, Evidence(rule=rule), selection)
