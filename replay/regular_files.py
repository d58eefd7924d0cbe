"""Files among tables that would be waited for instead of read, or are no text: refused before one is opened."""

import csv
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import read_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.sources.folder import DEPTH, SUFFIXES

ROOMS = {"hosp", "icu", "data", "metadata"}
CACHE, READ = "mimic-tables", {"rows": int, "fingerprint": str}  # its folder, and a record's fields
LISTING = "SHA256SUMS.txt"
LARGEST_LISTING = 2**24  # bytes; MIMIC-IV's has 4,000
LONGEST_HEADER = 2**16  # characters; MIMIC-IV's longest has 400


def check_files(location: str | Path) -> None:
    """Refuse pipes, devices and sockets among the tables of a folder, a list of hashes and headers that are no text.

    Raises:
        TableError: naming the file. Whatever else is wrong with one comes out where it is read.
    """
    tables = load_shipped(TablesSettings, "tables.yaml")
    names = {f"{name}{suffix}" for name in {**tables.tables, **tables.further_tables} for suffix in SUFFIXES}
    for file in _files(Path(location)):
        if not file.exists():  # a link to nowhere
            continue
        if not file.is_file():
            raise TableError(f"{file}: found no regular file, expected a table or {LISTING}. Remove it.")
        if file.name == LISTING:
            _check_listing(file)
        elif file.name.casefold() in names and not file.name.endswith(".parquet"):
            _check_header(file)


def check_cache(cache: Path | None) -> None:
    """Refuse a cache of converted tables whose records are damaged, before one of them is looked up.

    Raises:
        TableError: naming the file.
    """
    for file in [] if cache is None else (cache / CACHE).glob("*.json"):
        found = read_json(file, expected="what was read of a table; delete the cache")
        if not (isinstance(found, dict) and {name: type(found.get(name)) for name in READ} == READ):
            raise TableError(
                f"{file}: found no record of a table that was read. Delete the cache, then build again."
            )


def _files(folder: Path) -> Iterator[Path]:
    """What stands in a folder of tables, as deep as they may lie, by names of tables and lists of hashes."""
    for place, folders, files in os.walk(folder, followlinks=True):
        inside = [name.casefold() for name in Path(place).relative_to(folder).parts]
        if len(inside) > DEPTH + 1 or (len(inside) >= DEPTH and not ROOMS & set(inside)):
            folders.clear()  # `icu` may lie at most so deep, and a folder of shards in it
        yield from (
            Path(place, name) for name in files if name == LISTING or name.casefold().endswith(SUFFIXES)
        )


def _check_listing(file: Path) -> None:
    problem = f"{file.stat().st_size} bytes" if file.stat().st_size > LARGEST_LISTING else ""
    if not problem:
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            problem = "no text"
    if problem:
        raise TableError(
            f"{file}: found {problem}, expected the hashes of a release. Download it again, or remove it."
        )


def _check_header(file: Path) -> None:
    opener = gzip.open if file.name.endswith(".gz") else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as stream:
            line = stream.readline(LONGEST_HEADER + 1)
        if len(line) <= LONGEST_HEADER:
            next(csv.reader([line], strict=True), [])
            return
    except csv.Error:
        pass
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return
    raise TableError(
        f"{file}: its first line is no header of a csv file (a quote without its end, or more than {LONGEST_HEADER} "
        "characters). Compare it with the release, and download it again."
    )
