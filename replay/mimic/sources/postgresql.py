"""A PostgreSQL database with MIMIC-IV in schemas, as mimic-code's scripts load it; needs the extra `postgresql`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from sepsis_cql.common.errors import TableError
from sepsis_cql.replay.mimic.raw_files import TableSettings, TablesSettings, quote
from sepsis_cql.replay.mimic.sources.base import TableSource, choose_schema, find_tables, streamed

SCHEMES = ("postgresql://", "postgres://")
INSTALL = "pip install 'sepsis-cql[postgresql]'"
ADDRESS = re.compile(r"\w+://(?:[^@/?#]*@)?(?P<host>[\w.-]*(?::\d+)?)(?P<database>/[\w.-]*)?(?:\?[^@]*)?")
# one snapshot for all tables, and nothing that could write
BEGIN = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


def is_meant(location: str) -> bool:
    """Whether `location` is a PostgreSQL address."""
    return location.startswith(SCHEMES)


def open_source(location: str, settings: TablesSettings) -> TableSource:
    """Connect to the database and find each table.

    Raises:
        TableError: the driver is not installed, the server does not answer, or a table is not there.
    """
    where = without_credentials(location)
    connection = _connect(location, where)
    try:
        with _explained(where), connection.cursor() as cursor:
            cursor.execute(BEGIN)
        tables = find_tables(
            settings,
            lambda name, table: PostgreSQLTable(
                connection, where, _find_schema(connection, where, name, table), name
            ),
        )
    except BaseException:
        connection.close()
        raise
    return TableSource(where=where, tables=tables, close=connection.close)


def without_credentials(location: str) -> str:
    """Return the host and database of an address; where it is not well formed, a password may be anywhere in it."""
    parts = ADDRESS.fullmatch(location)
    return f"postgresql://{parts['host']}{parts['database'] or ''}" if parts else "postgresql://"


@dataclass(frozen=True)
class PostgreSQLTable:
    """A table of the database, whose rows are streamed in batches and never lie in memory together."""

    connection: Any
    database: str
    schema: str
    name: str

    @property
    def where(self) -> str:
        """The database and the table."""
        return f"{self.database}, table {self.schema}.{self.name}"

    def key(self) -> None:
        """Return None: a database does not say whether rows changed."""

    def header(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return the columns of the table."""
        with _explained(self.where):
            columns = self.connection.adbc_get_table_schema(self.name, db_schema_filter=self.schema).names
        return [column.casefold() for column in columns]

    def count(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return the rows of the table, counted by the server."""
        rows = _query(self.connection, self.where, f"SELECT count(*) FROM {self._table}")
        return int(rows[0][0])

    @contextmanager
    def relation(
        self, connection: duckdb.DuckDBPyConnection, header: list[str], table: TableSettings
    ) -> Iterator[str]:
        """Yield the items wanted, as the server sends them."""
        kept = f" WHERE itemid IN ({', '.join(map(str, table.itemids))})" if table.items else ""
        query = f"SELECT {', '.join(table.columns)} FROM {self._table}{kept}"
        with _explained(self.where), self.connection.cursor() as cursor:
            cursor.execute(query)
            with streamed(connection, cursor.fetch_record_batch(), self.where) as relation:
                yield relation

    @property
    def _table(self) -> str:
        return f'"{self.schema}"."{self.name}"'


def _connect(location: str, where: str) -> Any:
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise TableError(f"{where}: needs the driver of PostgreSQL. Install it: {INSTALL}.") from None
    with _explained(where):
        return dbapi.connect(location)


def _find_schema(connection: Any, where: str, name: str, table: TableSettings) -> str:
    query = f"SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name = {quote(name)}"
    return choose_schema(where, name, table, [row[0] for row in _query(connection, where, query)])


def _query(connection: Any, where: str, query: str) -> list[tuple[Any, ...]]:
    with _explained(where), connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn an error of the driver, whose message may repeat the address with its password, into one of ours."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("adbc_driver"):
            raise
        state = getattr(error, "sqlstate", None)
        found = f"SQLSTATE {state}" if state else type(error).__name__
        raise TableError(
            f"{where}: the server cannot be reached or refused ({found}); expected a database with MIMIC-IV that this "
            "user may read. Check host, port, database, user and password; a password is best kept in ~/.pgpass."
        ) from None
