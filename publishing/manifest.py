"""manifest.json: the SHA-256 and size of every other file of an export, and the comparison with it."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field, ValidationError

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.strict import Settings
from sepsis_cql.publishing.guard.strict_json import dump_json, parse_json

MANIFEST, SIGNATURE = "manifest.json", "signature.json"  # the second is of the first
PathText = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_./-]{0,99}$")]


class ManifestEntry(Settings):
    """What one file must be."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Settings):
    """Every file of an export but the manifest itself and its signature, by path."""

    files: Annotated[dict[PathText, ManifestEntry], Field(max_length=100)]


def dump_manifest(files: Mapping[str, bytes]) -> bytes:
    """Return the manifest of files by path."""
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in sorted(files.items())
        if name not in (MANIFEST, SIGNATURE)
    }
    return dump_json({"files": entries})


def parse_manifest(content: bytes, place: str) -> Manifest:
    """Return the manifest of an export.

    Args:
        content: of the file.
        place: where it was found, for the error message.

    Raises:
        PublishingError: it does not have the form of one.
    """
    try:
        return Manifest.model_validate(parse_json(content))
    except (ValidationError, ValueError):
        raise PublishingError(
            f"{place}: entries are not a path with sha256 and bytes. Export again."
        ) from None


def manifest_differences(files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield, for each path, how files differ from their manifest.

    Raises:
        PublishingError: there is no manifest, or it does not have the form of one.
    """
    if MANIFEST not in files:
        raise PublishingError(
            f"no {MANIFEST}, so this is not an export. Expected what `sepsis-cql export` writes."
        )
    entries = parse_manifest(files[MANIFEST], MANIFEST).files
    unlisted = set(files) - {MANIFEST, SIGNATURE} - set(entries)
    if unlisted:
        yield f"{len(unlisted)} files are not in {MANIFEST}"
    for name, entry in sorted(entries.items()):
        if name not in files:
            yield f"{name}: listed in {MANIFEST} but absent"
        elif hashlib.sha256(files[name]).hexdigest() != entry.sha256:
            yield f"{name}: content differs from {MANIFEST}"
