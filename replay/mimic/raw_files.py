"""What is read of MIMIC-IV's tables, and names of files as SQL."""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Self

import duckdb
from pydantic import Field

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.strict import Settings


class TableSettings(Settings):
    """Where a table lies, which columns (name: SQL type) and items of it are read, its rows by release.

    Attributes:
        needed_by: concepts for which alone it is read, if asked for; none where every build reads it.
    """

    folder: str
    columns: dict[str, str]
    rows: dict[str, int]
    items: dict[str, list[int]] = Field(default_factory=dict)
    needed_by: list[str] = Field(default_factory=list)

    @property
    def itemids(self) -> list[int]:
        """Every item id to keep, sorted; empty means all rows."""
        return sorted({itemid for ids in self.items.values() for itemid in ids})


class TablesSettings(Settings):
    """The whole of `configs/tables.yaml`."""

    tables: dict[str, TableSettings]
    further_tables: dict[str, TableSettings]
    keys: dict[str, str]
    years: tuple[int, int]
    lab_labels: dict[int, str]
    demo_patients_sha256: str
    foreign_files: dict[str, list[str]]

    def with_items(self, items: Mapping[str, Iterable[int]]) -> Self:
        """Return the settings with more items of some tables, such as those of a build's features and fluids."""
        tables = {
            name: table.model_copy(update={"items": table.items | {"of the build": sorted(items[name])}})
            if name in items
            else table
            for name, table in self.tables.items()
        }
        return self.model_copy(update={"tables": tables})

    def with_concepts(self, concepts: Collection[str]) -> Self:
        """Return the settings with the further tables that some concepts need."""
        needed = {
            name: table for name, table in self.further_tables.items() if set(table.needed_by) & set(concepts)
        }
        return self.model_copy(update={"tables": self.tables | needed})


def quote(text: object) -> str:
    """SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def escape(connection: duckdb.DuckDBPyConnection, file: Path) -> str:
    """SQL string literal of the one file of exactly that name: `*`, `?` and `[` in it match themselves only.

    Raises:
        TableError: the engine would read another file, or none.
    """
    pattern = re.sub(r"[*?[]", lambda found: f"[{found[0]}]", str(file.absolute()))
    try:
        matched = connection.execute("SELECT file FROM glob(?)", [pattern]).fetchall()
    except (duckdb.Error, UnicodeEncodeError):
        matched = []
    if matched != [(str(file.absolute()),)]:
        raise TableError(
            f"{file}: the database engine cannot open a path of this name as it is. Rename the file or its folders to "
            "letters, digits, spaces and hyphens."
        )
    return quote(pattern)


def parquet(connection: duckdb.DuckDBPyConnection, file: Path) -> str:
    """SQL relation of one parquet file; a folder named `a=b` adds no column."""
    return f"read_parquet({escape(connection, file)}, hive_partitioning = false)"
