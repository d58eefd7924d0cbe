"""What a source of tables offers: the same few answers for each table, wherever it is kept."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb
import pyarrow as pa

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import errno_of
from sepsis_cql.replay.mimic.raw_files import TableSettings, TablesSettings

INCOMING = "incoming_rows"
GET_A_FRESH_COPY = "Compare it with the release, and download or load it again."


class MissingTableError(TableError):
    """A place does not hold a table."""


class SourceTable(Protocol):
    """One table of a source; a source is a class with these five members and a function that makes it.

    Attributes:
        where: file or table as messages name it, never with credentials.
    """

    @property
    def where(self) -> str:
        """Name of the table for messages."""

    def key(self) -> str | None:
        """Return what changes when the content does, so that a cache may serve the rest; None where nothing does."""

    def header(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return the names of the columns in lower case.

        Raises:
            TableError: the table cannot be opened.
        """

    def count(self, connection: duckdb.DuckDBPyConnection) -> int | None:
        """Return the number of rows, before items are selected; None where only reading tells it."""

    def relation(
        self, connection: duckdb.DuckDBPyConnection, header: list[str], table: TableSettings
    ) -> AbstractContextManager[str]:
        """Yield the SQL of a relation with the columns needed, which is read once within the block.

        It may hold more items than asked for, and other types that can be cast. What goes wrong in reading it
        leaves the block as a TableError that shows no row.
        """


@dataclass(frozen=True)
class TableSource:
    """Where all tables are kept.

    Attributes:
        where: the place as messages name it, never with credentials.
        tables: one for each table that is read, by name.
        mark: a SYNTHETIC.json beside simulated tables, or None.
        release: of MIMIC-IV where the place says it, else None: the tables tell.
        notes: what a reader of the build report must know of this place.
        close: lets go of the place.
    """

    where: str
    tables: Mapping[str, SourceTable]
    mark: Path | None = None
    release: str | None = None
    notes: tuple[str, ...] = ()
    close: Callable[[], None] = lambda: None


class Kind(Protocol):
    """A kind of place: a module of this folder."""

    def is_meant(self, location: str) -> bool:
        """Whether `location` is spelled like, or is, a place of this kind; contacts nothing."""

    def open_source(self, location: str, settings: TablesSettings) -> TableSource:
        """Open the place.

        Raises:
            TableError: it cannot be opened, or lacks a table.
        """


Table = TypeVar("Table", bound=SourceTable)


def find_tables(settings: TablesSettings, find: Callable[[str, TableSettings], Table]) -> dict[str, Table]:
    """Return every table that is read, by name, without those only some concepts need where the place lacks them.

    Args:
        settings: what is read of the tables.
        find: opens the table of a name, or raises MissingTableError.
    """
    tables = {}
    for name, table in settings.tables.items():
        try:
            tables[name] = find(name, table)
        except MissingTableError:
            if not table.needed_by:
                raise
    return tables


def choose_schema(where: str, name: str, table: TableSettings, schemas: list[str]) -> str:
    """Return the schema of a database that holds a table: `mimiciv_hosp`, or the only one that does.

    Args:
        where: the database, for the message.
        name: of the table.
        table: its settings.
        schemas: that hold a table of that name.

    Raises:
        MissingTableError: none holds it, or several do and none is MIMIC-IV's.
    """
    official = [schema for schema in schemas if re.fullmatch(rf"mimic(iv)?_{table.folder}", schema, re.I)]
    usable = official or [schema for schema in schemas if not schema.lower().endswith(("derived", "_ed"))]
    if len(usable) == 1:
        return usable[0]
    raise MissingTableError(
        f"{where}: found the table {name} in {', '.join(sorted(usable)) or 'no schema'}, expected it in "
        f"mimiciv_{table.folder}. Load MIMIC-IV as mimic-code does, into mimiciv_hosp and mimiciv_icu."
    )


@contextmanager
def streamed(
    connection: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader, where: str
) -> Iterator[str]:
    """Yield a relation of rows that a server sends, which are never in memory together.

    Raises:
        TableError: a value cannot be cast to MIMIC-IV's type.
    """
    connection.register(INCOMING, reader)
    try:
        yield INCOMING
    except duckdb.Error as error:
        if is_of_engine(error):
            raise
        raise TableError(f"{where}: unreadable as MIMIC-IV. {GET_A_FRESH_COPY}") from None
    finally:
        connection.unregister(INCOMING)


def is_of_engine(error: duckdb.Error) -> bool:
    """Whether an error says nothing of the rows: memory, an interruption, or the system's."""
    return isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException) or bool(errno_of(error))
