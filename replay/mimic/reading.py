"""One table of a source to a parquet file of the columns and items needed, with the fingerprint of its rows."""

import json
from pathlib import Path
from typing import NamedTuple

import duckdb

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import read_json, write_json
from sepsis_cql.replay.mimic.checks import WHOLE, check_zones, whole
from sepsis_cql.replay.mimic.raw_files import TableSettings, quote
from sepsis_cql.replay.mimic.row_fingerprint import fingerprint_rows
from sepsis_cql.replay.mimic.sources.base import GET_A_FRESH_COPY, SourceTable


class TableRead(NamedTuple):
    """What was read of a table: its rows before items are selected, and the fingerprint of those kept."""

    rows: int
    fingerprint: str


def check_columns(source: SourceTable, header: list[str], table: TableSettings) -> None:
    """Refuse a table that lacks a column that is read.

    Raises:
        TableError: a column is not there.
    """
    if missing := sorted(set(table.columns) - set(header)):
        raise TableError(
            f"{source.where}: column {', '.join(missing)} not found. Found {', '.join(header)}. {GET_A_FRESH_COPY}"
        )


def open_table(
    connection: duckdb.DuckDBPyConnection,
    source: SourceTable,
    header: list[str],
    table: TableSettings,
    converted: Path,
    cached: Path,
) -> TableRead:
    """Convert a table to `cached` by way of `converted`, unless that is there; return what it holds."""
    record = cached.with_suffix(".json")
    if not cached.exists():
        rows = convert(connection, source, header, table, converted)
        fingerprint = fingerprint_rows(converted)
        write_json(record, TableRead(rows, fingerprint)._asdict())
        converted.replace(cached)
    found = read_json(record, expected=f"what was read of {source.where}; delete {cached} too")
    return TableRead(int(found["rows"]), str(found["fingerprint"]))


def convert(
    connection: duckdb.DuckDBPyConnection,
    source: SourceTable,
    header: list[str],
    table: TableSettings,
    target: Path,
) -> int:
    """Write the needed columns and items of one table to `target` and return the table's row count.

    Raises:
        TableError: the table is damaged, holds a value of another type, or no row.
    """
    columns = ", ".join(f"{_typed(name, kind)} AS {name}" for name, kind in table.columns.items())
    kept = f"WHERE itemid IN ({', '.join(map(str, table.itemids))})" if table.items else ""
    with source.relation(connection, header, table) as relation:
        check_zones(connection, relation, source.where, table)
        connection.execute(
            f"COPY (SELECT {columns} FROM {relation} {kept}) TO {quote(target)} (FORMAT parquet)"
        )
        scanned = _count_scanned(connection)
    n_rows = source.count(connection)
    n_rows = scanned if n_rows is None else n_rows
    if n_rows == 0:
        raise TableError(
            f"{source.where}: found no row under the header, expected at least one. {GET_A_FRESH_COPY}"
        )
    return n_rows


def _typed(name: str, kind: str) -> str:
    """The column in its type; empty text is NULL, as it is in the files, where databases tell the two apart."""
    if kind in WHOLE:
        return whole(name, kind)
    return f"nullif(CAST(\"{name}\" AS VARCHAR), '')" if kind == "VARCHAR" else f'CAST("{name}" AS {kind})'


def _count_scanned(connection: duckdb.DuckDBPyConnection) -> int:
    """Rows the last statement read from its file, which is how a csv file is counted without a second read."""
    profile = json.loads(connection.get_profiling_information(format="json"))
    return int(profile["query"]["total_rows_scanned"])
