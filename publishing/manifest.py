"""manifest.json: the SHA-256 and size of every other file of an export, and the comparison with it."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.ownership import MARK, read_mark
from sepsis_cql.common.storage import read_json, sha256_file, write_json
from sepsis_cql.common.strict import Settings

MANIFEST = "manifest.json"


class ManifestEntry(Settings):
    """What one file must be."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Settings):
    """Every file of an export but the manifest itself, by path."""

    files: dict[str, ManifestEntry]


def export_files(directory: Path) -> list[str]:
    """Paths of everything under `directory` that is not a directory, relative to it and sorted.

    The mark that `sepsis-cql export` leaves is no part of an export, provided that it is exactly that.
    """
    mark = {MARK} if read_mark(directory) else set()
    found = (
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )
    return sorted(set(found) - mark)


def write_manifest(directory: Path) -> None:
    """Describe all files of `directory` in its manifest.json."""
    entries = {
        name: {"sha256": sha256_file(directory / name), "bytes": (directory / name).stat().st_size}
        for name in export_files(directory)
        if name != MANIFEST
    }
    write_json(directory / MANIFEST, {"files": entries})


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an export.

    Raises:
        PublishingError: it does not have the form of one.
    """
    document = read_json(directory / MANIFEST, expected="the manifest that `sepsis-cql export` writes")
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise PublishingError(
            f"{directory / MANIFEST}: {error.error_count()} entries are not a path with sha256 and bytes. "
            "Export again."
        ) from error


def manifest_differences(directory: Path) -> Iterator[str]:
    """Yield, for each path, how the files of `directory` differ from its manifest."""
    entries = read_manifest(directory).files
    found = set(export_files(directory)) - {MANIFEST}
    for name in sorted(found | set(entries)):
        if name not in entries:
            yield f"{name}: not in {MANIFEST}"
        elif name not in found:
            yield f"{name}: listed in {MANIFEST} but absent"
        elif sha256_file(directory / name) != entries[name].sha256:
            yield f"{name}: content differs from {MANIFEST}"
