"""The study of `reproduce`: its size, what makes a directory this very study, its runs, and what each rule chose."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sepsis_cql.commands.evaluate import explain_failed
from sepsis_cql.commands.options import EngineName
from sepsis_cql.commands.output import console, new_table, print_table
from sepsis_cql.commands.sweep import RunsBar, SweepFiles, new_sweep
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.ownership import check_new_directory, one_writer, read_mark
from sepsis_cql.common.provenance import ROOT, code_sha256
from sepsis_cql.common.storage import open_directory, replaced_directory, write_json
from sepsis_cql.common.strict import (
    SHIPPED,
    Record,
    Settings,
    find_settings,
    load_settings,
    merge,
    read_record,
)

if TYPE_CHECKING:
    from sepsis_cql.evaluation.study import Study, StudyRun
    from sepsis_cql.replay.directory import Replay
    from sepsis_cql.training.sweep.protocol import Sweep

REQUEST, SELECTION = "reproduce.json", "selection.json"  # in the directory of a study
SWEEP, TRAINING, EVALUATION = (
    "sweep",
    "training",
    "evaluation",
)  # that hold the runs, the chosen one, its test
CELLS = (
    "run",
    "max Q (published FQE)",
    "WIS",
    "ESS",
    "judged as",
    "cross-fitted FQE",
    "true value, as it acts",
    "true value, as judged",
)  # of the table of choices
# What decides the files of a study; how they are shown does not.
ROOMS = ("checkpoints", "common", "evaluation", "replay", "synthetic", "training")


class StudySettings(Settings):
    """The whole of `configs/study_small.yaml` and `configs/study_published.yaml`.

    Attributes:
        patients, seed: of the synthetic ICU.
        reference: a run that is trained and shown whatever is chosen: the grid's settings and a seed; None for none.
        synthetic, sweep, training: changes to `synthetic.yaml`, `sweep.yaml` and the learner's settings.
    """

    patients: int = Field(ge=1)
    seed: int = Field(ge=0)
    reference: dict[str, Any] | None
    synthetic: dict[str, Any]
    sweep: dict[str, Any]
    training: dict[str, Any]


class Request(Record):
    """Contents of `reproduce.json`: what a directory must have been begun with to be continued.

    Attributes:
        data, mimic: where the tables come from; of an address, which may hold a password, its SHA-256.
        size: as asked for.
        study: the settings it may lead to, by name.
        changes: by `--set`.
        code: SHA-256 of what makes the files.
    """

    data: str
    mimic: str | None
    size: str | None
    study: dict[str, StudySettings]
    changes: list[str]
    code: str


def load_study_settings(size: str, changes: dict[str, Any]) -> StudySettings:
    """Read the settings of a study, `small`, `published` or a file, with nested changes.

    Raises:
        SettingsError: there is none of that name, or a field is wrong.
    """
    name = size if size.endswith((".yaml", ".yml")) else f"study_{size}"
    return load_settings(StudySettings, find_settings(name, "reference"), changes)


def sha256_of_code() -> str:
    """Return the SHA-256 of the code and settings that decide the files of a study."""
    return code_sha256(*(ROOT / room for room in ROOMS), *sorted(SHIPPED.glob("*.yaml")))


def open_request(out: Path, request: Request, *, force: bool, inputs: Sequence[Path | str]) -> None:
    """Make the directory of a study, or open it to go on; hold its lock.

    Raises:
        SepsisCQLError: it holds something else, or a study begun otherwise.
    """
    is_begun = read_mark(out) == "reproduce"
    if not is_begun:
        check_new_directory(out, "reproduce", force=force, inputs=inputs)
    open_directory(out, "reproduce", resume=is_begun and not force, force=force, inputs=inputs)
    file = out / REQUEST
    if not file.exists():
        write_json(file, request.model_dump(mode="json"))
        return
    found = read_record(Request, file, expected="what `sepsis-cql reproduce` was asked for")
    if different := [name for name, value in request if getattr(found, name) != value]:
        raise SepsisCQLError(
            f"{out}: was begun with another {', '.join(different)}, expected the same to go on. Repeat the command "
            "that began it, start anew with --force, or choose another --out."
        )


def run_study(
    out: Path,
    replay: "Replay",
    settings: StudySettings,
    changes: dict[str, dict[str, Any]],
    engine: EngineName,
) -> tuple["Sweep", Any, list[Any]]:
    """Walk both stages of the protocol, freeze the choice, and put the chosen run into `training/`.

    What is there already is kept, so the same call goes on after an interruption of any kind.

    Returns:
        The sweep, the scorer of its runs, and the runs of stage 1, of stage 2 and the reference.
    """
    changed = {name: changes[name] for name in ("sweep", "training", "evaluation", "runtime")}
    changed["sweep"] = merge(settings.sweep, changed["sweep"])
    changed["training"] = merge(settings.training, changed["training"])
    files = SweepFiles(SHIPPED / "sweep.yaml", SHIPPED / "cql.yaml", SHIPPED / "evaluation.yaml")
    directory = out / SWEEP
    with one_writer(directory, "reproduce"), RunsBar(directory) as bar:
        sweep, scorer = new_sweep(
            replay, directory, files, None, changed, engine, bar.report, by_last_epoch=True
        )
        bar.expect(sweep.settings, further=settings.reference is not None)
        sweep.open(resume=directory.exists(), force=False)
        first = sweep.run_stage1()
        second = sweep.run_stage2(first)
        reference = sweep.run_reference(settings.reference) if settings.reference else None
        if not (out / TRAINING).exists():
            sweep.select(second)
            with replaced_directory(out / TRAINING) as training:
                shutil.copytree(directory / "selected", training, dirs_exist_ok=True)
                shutil.copyfile(directory / SELECTION, out / SELECTION)
    return sweep, scorer, [first, second, reference]


def print_choices(study: "Study", bound: float) -> None:
    """Print what each rule chose, side by side: published metrics, in doubt beyond `bound`, estimate and true value."""
    chosen = {rule: study.runs[index] for rule, index in study.choices if index is not None}
    table = new_table("", *chosen, fold=tuple(chosen))
    rows = [_cells(run, bound) for run in chosen.values()]
    for name, *cells in zip(CELLS, *rows, strict=True):
        if any(cells):  # the truth of patients is not known
            table.add_row(name, *cells)
    print_table(table)
    explain_failed([cell for row in rows for cell in row], bound)
    if study.clinicians is not None:
        console.print(f"true value of the clinicians: {study.clinicians.value:.2f}")


def _cells(run: "StudyRun", bound: float) -> list[str]:
    from sepsis_cql.evaluation.report.results import FAILED, make_result, say_published

    score, truth = run.score, run.truth
    true = (truth.greedy, truth.judged)
    return [
        f"{', '.join(map(str, run.configuration.values()))}, seed {run.seed}",
        say_published(score.published_fqe, bound),
        str(make_result(score.published_wis, None, None, bound, ess=score.published_ess) or FAILED),
        "none" if score.published_ess is None else f"{score.published_ess:.1f}",
        score.softening.replace(" / ", "/"),
        f"{score.fqe:.2f} [{score.fqe_lower:.2f}, {score.fqe_upper:.2f}]",
        *("" if value is None else f"{value.value:.2f}" for value in true),
    ]
