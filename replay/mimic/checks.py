"""What rows must be, whatever they mean: whole ids, keys that stand there once, finite numbers, sane times."""

import re

import duckdb

from sepsis_cql.common.errors import TableError
from sepsis_cql.replay.mimic.raw_files import TableSettings, TablesSettings
from sepsis_cql.replay.mimic.sources.base import GET_A_FRESH_COPY

WHOLE = {"INTEGER": 2**31, "SMALLINT": 2**15}  # types and what their values lie below
ZONE = re.compile(r"\d\d:\d\d.*([+-]\d\d|Z|UTC|GMT|[A-Z][a-z]+/\w+)", re.ASCII)  # after a time of day


def whole(name: str, kind: str) -> str:
    """SQL of a column as whole numbers: the engine would round 1.5 to 2, and with it an id to another one."""
    number = f'CAST("{name}" AS DOUBLE)'
    return (
        f"CASE WHEN {number} = trunc({number}) AND abs({number}) < {WHOLE[kind]} THEN CAST({number} AS {kind}) "
        f"WHEN {number} IS NOT NULL THEN error('{say_wrong(name, kind)}') END"
    )


def say_wrong(name: str, kind: str) -> str:
    """What is said of a column with a value of another type; never the value."""
    return f"column {name} holds a value that is no {kind}"


def check_zones(
    connection: duckdb.DuckDBPyConnection, relation: str, where: str, table: TableSettings
) -> None:
    """Refuse columns of times with a zone: MIMIC-IV's are local, and the engine would shift them or drop the zone.

    Raises:
        TableError: naming the columns.
    """
    kinds = dict(row[:2] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall())
    zoned = [
        name
        for name, kind in kinds.items()
        if name.casefold() in table.columns and kind.endswith("WITH TIME ZONE")
    ]
    if zoned:
        raise TableError(
            f"{where}: column {', '.join(zoned)} has a time zone, expected local times. {GET_A_FRESH_COPY}"
        )


def check_rows(
    connection: duckdb.DuckDBPyConnection, name: str, where: str, settings: TablesSettings
) -> None:
    """Refuse a table in which a key repeats or is missing, a number is not finite, or a time is of no sane year.

    Args:
        connection: has a view of the table.
        name: of the table.
        where: it was read, for the message.
        settings: its columns and its key.

    Raises:
        TableError: naming the columns and in how many rows they are wrong.
    """
    table, (first, last) = settings.tables[name], settings.years
    wrong = {}
    for column, kind in table.columns.items():
        if kind in ("TIMESTAMP", "DATE"):
            wrong[f"times of {column} outside {first} to {last}"] = (
                f"{column} < DATE '{first}-01-01' OR {column} > DATE '{last}-12-31'"
            )
        elif kind in ("FLOAT", "DOUBLE"):
            wrong[f"values of {column} that are not finite"] = f"NOT isfinite({column})"
    counts = [f"count(*) FILTER ({condition})" for condition in wrong.values()]
    key = settings.keys.get(name)
    if key is not None:
        wrong[f"rows in which {key} repeats or is missing"] = ""
        counts.append(f"count(*) - count(DISTINCT {key})")
    if not counts:
        return
    found = connection.execute(f"SELECT {', '.join(counts)} FROM {name}").fetchall()[0]
    if problems := [f"{n} {what}" for what, n in zip(wrong, found, strict=True) if n]:
        raise TableError(f"{where}: found {'; '.join(problems)}, expected none. {GET_A_FRESH_COPY}")
