"""A DuckDB database file with MIMIC-IV in schemas, as mimic-code's import script makes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import sha256_file
from sepsis_cql.replay.mimic.raw_files import TableSettings, TablesSettings, quote
from sepsis_cql.replay.mimic.sources.base import (
    GET_A_FRESH_COPY,
    TableSource,
    choose_schema,
    find_tables,
    is_of_engine,
)

MAGIC = slice(8, 12)  # where a DuckDB file says that it is one
CATALOG = "mimic_source"
SINGLE = (
    "the file keeps numbers in single precision, as mimic-code's script makes it: of a number half-way between two the "
    "last bit may be another than where text or double precision is kept, and with it the fingerprint"
)


def is_meant(location: str) -> bool:
    """Whether `location` is a file with the mark of DuckDB, or is called so by its ending."""
    file = Path(location)
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(MAGIC.stop)[MAGIC] == b"DUCK" or file.suffix in (".db", ".duckdb")


def open_source(location: str, settings: TablesSettings) -> TableSource:
    """Find each table of a database file, which is attached, read-only, where it is read.

    Raises:
        TableError: it cannot be opened, or lacks a table.
    """
    database = Database(Path(location))
    with duckdb.connect() as connection:

        def find(name: str, table: TableSettings) -> DuckDBTable:
            found = DuckDBTable(database, name, table.folder, table)
            found.header(connection)
            return found

        tables = find_tables(settings, find)
        kinds = connection.execute(f"DESCRIBE {tables['inputevents'].relation_name(connection)}").fetchall()
        is_single = any(name.casefold() == "amount" and kind == "FLOAT" for name, kind, *_ in kinds)
        return TableSource(where=location, tables=tables, notes=(SINGLE,) if is_single else ())


@dataclass(frozen=True)
class Database:
    """The file, hashed once for all its tables."""

    file: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return sha256_file(self.file)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the tables of the file readable on `connection`.

        Raises:
            TableError: it is no DuckDB file, is of a newer engine, or another process writes to it.
        """
        try:
            connection.execute(f"ATTACH IF NOT EXISTS {quote(self.file)} AS {CATALOG} (READ_ONLY)")
        except duckdb.Error as error:
            if is_of_engine(error):
                raise
            raise TableError(
                f"{self.file}: cannot be opened as a DuckDB file ({str(error).splitlines()[0]}). Close other programs "
                "that use it, or load MIMIC-IV again with this version of DuckDB."
            ) from None


@dataclass(frozen=True)
class DuckDBTable:
    """A table of the file."""

    database: Database
    name: str
    folder: str
    settings: TableSettings

    @property
    def where(self) -> str:
        """The file and the table."""
        return f"{self.database.file}, table {self.name}"

    def key(self) -> str:
        """Return the SHA-256 of the whole file."""
        return self.database.digest

    def header(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return the columns of the table."""
        self.database.attach(connection)
        return [
            row[0].casefold()
            for row in connection.execute(f"DESCRIBE {self.relation_name(connection)}").fetchall()
        ]

    def count(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return the rows of the table."""
        return int(
            connection.execute(f"SELECT count(*) FROM {self.relation_name(connection)}").fetchall()[0][0]
        )

    @contextmanager
    def relation(
        self, connection: duckdb.DuckDBPyConnection, header: list[str], table: TableSettings
    ) -> Iterator[str]:
        """Yield the table itself."""
        try:
            yield self.relation_name(connection)
        except duckdb.Error as error:
            if is_of_engine(error):
                raise
            raise TableError(
                f"{self.where}: holds a value of another type than MIMIC-IV's. {GET_A_FRESH_COPY}"
            ) from None

    def relation_name(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Return the table's name as SQL."""
        found = connection.execute(
            "SELECT schema_name FROM duckdb_tables() WHERE database_name = ? AND lower(table_name) = ? "
            "UNION SELECT schema_name FROM duckdb_views() WHERE database_name = ? AND lower(view_name) = ?",
            2 * [CATALOG, self.name],
        ).fetchall()
        schema = choose_schema(str(self.database.file), self.name, self.settings, [row[0] for row in found])
        return f'{CATALOG}."{schema}"."{self.name}"'
