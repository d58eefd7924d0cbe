"""An export: the allow-listed directory that may go to the Hub."""

import shutil
from pathlib import Path

from sepsis_cql.checkpoints.hub_package import CONFIG, PREPROCESSOR, WEIGHTS, load_package
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.storage import new_directory
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.publishing.card import write_card
from sepsis_cql.publishing.evidence import FOLDER, write_evidence
from sepsis_cql.publishing.guard.files import check_export
from sepsis_cql.publishing.manifest import write_manifest
from sepsis_cql.publishing.probes import write_probes

LICENSE = "LICENSE"


def write_package(replay: Path, training: Path, evaluation: Path, out: Path) -> None:
    """Put the network, the evidence and the card rendered from it into `out`.

    Args:
        replay: directory written by `build`; only its aggregate report is read.
        training: directory written by `train`.
        evaluation: directory written by `evaluate`.
        out: an existing directory.
    """
    for name in (CONFIG, WEIGHTS, PREPROCESSOR):
        shutil.copyfile(training / "package" / name, out / name)
    (out / "model").mkdir(exist_ok=True)
    for file in sorted((training / "model").iterdir()):
        shutil.copyfile(file, out / "model" / file.name)
    write_evidence(replay, training, evaluation, out / FOLDER)
    write_probes(out, load_package(out))
    figures = sorted((evaluation / "figures").glob("*.png"))
    for file in figures:
        (out / "model" / "figures").mkdir(exist_ok=True)
        shutil.copyfile(file, out / "model" / "figures" / file.name)
    write_card(out)


def write_export(
    replay: Path, training: Path, evaluation: Path, out: Path, *, force: bool = False
) -> list[tuple[str, int, str]]:
    """Write the export of a run; it appears only once the privacy guard has passed every file.

    Args:
        replay: directory written by `build`.
        training: directory written by `train`.
        evaluation: directory written by `evaluate`.
        out: directory to create.
        force: replace what is there.

    Returns:
        Path, size in bytes and reason for being allowed, of each file.

    Raises:
        PublishingError: the guard refuses a file.
    """
    inputs = [replay, training, evaluation]
    with new_directory(out, "export", force=force, inputs=inputs) as directory:
        write_package(replay, training, evaluation, directory)
        shutil.copyfile(ROOT / LICENSE, directory / LICENSE)
        for file in sorted(ROOT.glob("*_sepsis_cql.py")):
            shutil.copyfile(file, directory / file.name)
        (directory / "configs").mkdir()
        for file in sorted(SHIPPED.glob("*.yaml")):
            shutil.copyfile(file, directory / "configs" / file.name)
        write_manifest(directory)
        return check_export(directory)


def write_checkpoint(training: Path, out: Path, *, force: bool = False) -> Path:
    """Write the checkpoint of a run in the published layout, with its manifest, into a new directory; its path."""
    with new_directory(out, "export-pt", force=force, inputs=[training]) as directory:
        for file in sorted((training / "model").iterdir()):
            shutil.copyfile(file, directory / file.name)
    (checkpoint,) = out.glob("*.pt")
    return checkpoint
