"""The open MIMIC-IV demo from PhysioNet, each file checked against its published SHA-256."""

import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import explain_failure, new_directory, sha256_file
from sepsis_cql.common.strict import Settings, load_shipped

TIMEOUT_SECONDS = 60
LARGEST_FILE = 64 * 2**20  # bytes; the demo's largest is a sixth of it
CHUNK = 2**16


class DemoSettings(Settings):
    """The whole of `configs/demo.yaml`.

    Attributes:
        url: folder of the release.
        notice: source and licence, shown to whoever downloads.
        files: SHA-256 of each file the build reads, by path.
    """

    url: str
    notice: str
    files: dict[str, str]


def load_demo_settings() -> DemoSettings:
    """Return the shipped address, notice and checksums."""
    return load_shipped(DemoSettings, "demo.yaml")


def download_demo(
    out: Path,
    settings: DemoSettings,
    *,
    force: bool = False,
    announce: Callable[[str], None] = lambda name: None,
) -> Path:
    """Download the demo's tables into a new directory, which appears only when all of them are whole.

    `announce` is called with the name of each file before it is read.

    Raises:
        TableError: a file cannot be read or is not the published one.
    """
    with new_directory(out, "download", force=force) as temporary:
        for name, sha256 in settings.files.items():
            announce(name)
            _download(f"{settings.url}/{name}", temporary / name, sha256)
    return out


def _download(url: str, file: Path, sha256: str) -> None:
    file.parent.mkdir(exist_ok=True)
    by_hand = "Try again, or download the demo yourself and give its folder with --mimic."
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, file.open("wb") as stream:
            while (chunk := answer.read(CHUNK)) and stream.tell() < LARGEST_FILE:
                stream.write(chunk)
    except (URLError, OSError) as error:
        if explain_failure(error):  # of the disk, not of the network
            raise
        raise TableError(f"{url}: cannot be downloaded ({error}). {by_hand}") from error
    if (found := sha256_file(file)) != sha256:
        raise TableError(f"{url}: SHA-256 is {found[:12]}…, expected {sha256[:12]}…. {by_hand}")
