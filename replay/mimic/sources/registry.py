"""Which kind of place a `--mimic` names."""

import re
from pathlib import Path

from sepsis_cql.common.errors import TableError
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.sources import bigquery, duckdb_file, folder, meds, postgresql
from sepsis_cql.replay.mimic.sources.base import Kind, TableSource

# The first kind that a location is meant as; a new one is a file beside this and its name here.
KINDS: tuple[Kind, ...] = (postgresql, bigquery, duckdb_file, meds, folder)
EXPECTED = (
    "Expected the MIMIC-IV root that holds `hosp` and `icu`, a DuckDB file, a MEDS extract, "
    f"postgresql://host/database, or an address such as {bigquery.EXAMPLE}"
)


def find_kind(location: str | Path) -> Kind:
    """Return the kind of place that `--mimic` names, without contacting or reading it.

    Raises:
        TableError: no kind of place is spelled like that, or no file or directory is there.
    """
    text = str(location)
    if kind := next((kind for kind in KINDS if kind.is_meant(text)), None):
        return kind
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", text):
        raise TableError(
            f"{scheme[1]}:// is no source of tables. {EXPECTED}."
        )  # the rest may hold a password
    raise TableError(f"{text}: not a directory. {EXPECTED}.")


def open_source(location: str | Path, settings: TablesSettings) -> TableSource:
    """Open the place that `--mimic` names.

    Raises:
        TableError: there is none, it cannot be opened, or it lacks a table.
    """
    return find_kind(location).open_source(str(location), settings)


def list_inputs(location: str | Path) -> list[Path]:
    """Return what lies on this disk of a place, from which a command's output must stay apart."""
    return [Path(location)] if Path(location).exists() else []


def name_place(location: str | Path) -> str:
    """Return what a record may say of a place: its whole path on this disk, or its address without credentials."""
    if Path(location).exists():
        return str(Path(location).resolve())
    text = str(location)
    return postgresql.without_credentials(text) if postgresql.is_meant(text) else text
