"""An export of a run: made in memory from what may be published, then written."""

from pathlib import Path

from sepsis_cql.common.ownership import check_can_be_renamed, check_new_directory, one_writer
from sepsis_cql.common.storage import new_directory
from sepsis_cql.evaluation.report.figures import FIGURES
from sepsis_cql.evaluation.study import RECORD as STUDY
from sepsis_cql.publishing.evidence import Sources, read_run
from sepsis_cql.publishing.explorer import write_space
from sepsis_cql.publishing.guard.files import Export, make_export, make_package
from sepsis_cql.publishing.guard.png import Report, say_nothing
from sepsis_cql.publishing.package import make_network
from sepsis_cql.publishing.signature import read_private_key, sign


def export_run(
    run: Path, *, with_moments: bool = False, key: Path | None = None, report: Report = say_nothing
) -> Export:
    """Return the export of a run directory, in memory.

    Args:
        run: directory with `replay`, `training` and `evaluation`, and the record of the study where there is one.
        with_moments: put Adam's moments, averages of gradients on patients, into the checkpoint.
        key: private key in PEM that signs the manifest.
        report: called with each thing that is made, and how many are left.

    Raises:
        PublishingError: a record of the run holds what has no place in a published one.
    """
    if key is not None:
        read_private_key(key)  # before minutes of work
    report("records and weights", len(FIGURES) + 1)
    export = make_export(_read(run, with_moments), report)
    return export if key is None else Export(sign(export.files, key))


def write_package(run: Path, out: Path, report: Report = say_nothing) -> None:
    """Put the network, the evidence and the card rendered from it into the existing directory `out`."""
    report("records and weights", len(FIGURES) + 1)
    Export(make_package(_read(run, False), report)).write(out)


def write_export(
    run: Path,
    out: Path,
    *,
    force: bool = False,
    with_moments: bool = False,
    key: Path | None = None,
    report: Report = say_nothing,
) -> Export:
    """Write the export of a run; it appears only whole. See `export_run`.

    Args:
        run: directory with `replay`, `training` and `evaluation`.
        out: directory to create.
        force: replace what is there.
        with_moments: put Adam's moments into the checkpoint.
        key: private key in PEM that signs the manifest.
        report: called with each thing that is made, and how many are left.
    """
    inputs = [*_parts(run), *([] if key is None else [key])]
    with new_directory(out, "export", force=force, inputs=inputs) as directory:
        export = export_run(run, with_moments=with_moments, key=key, report=report)
        export.list_files()
        export.write(directory)
    return export


def write_checkpoint(run: Path, out: Path, *, force: bool = False, with_moments: bool = False) -> Path:
    """Write the checkpoint of a run's export, with its manifest, into a new directory; return its path."""
    with new_directory(out, "export-pt", force=force, inputs=_parts(run)) as directory:
        files = export_run(run, with_moments=with_moments).files
        Export(
            {Path(name).name: data for name, data in files.items() if Path(name).parent.as_posix() == "model"}
        ).write(directory)
    (checkpoint,) = out.glob("*.pt")
    return checkpoint


def write_explorer(run: Path, out: Path, *, force: bool = False) -> Path:
    """Write the explorer of a run as a static Space into a new directory; return its page."""
    with one_writer(out, "export-space"):  # told before minutes of work; it is held again to write
        check_can_be_renamed(out)
        check_new_directory(out, "export-space", force=force, inputs=_parts(run))
    sources = _read(run, False)
    return write_space(make_network(sources), sources.records, out, force=force, inputs=list(_parts(run)))


def _read(run: Path, with_moments: bool) -> Sources:
    study = run if (run / STUDY).is_file() else None
    replay, training, evaluation, audit = _parts(run)
    return read_run(replay, training, evaluation, study, audit, with_moments=with_moments)


def _parts(run: Path) -> tuple[Path, Path, Path, Path]:
    return run / "replay", run / "training", run / "evaluation", run / "audit"
