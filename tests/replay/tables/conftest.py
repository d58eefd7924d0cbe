"""Made-up MIMIC-IV tables: typed rows in memory, and a whole root of csv.gz files."""

import csv
import gzip
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.mimic.concepts import ORDER, create_concepts, read_query
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.tables import open_mimic

from .postgres_server import Postgres, start_postgres

RawRows = list[dict[str, str]]
ANY_VALUE = {
    "INTEGER": "1",
    "SMALLINT": "2100",
    "FLOAT": "1.5",
    "DOUBLE": "1.5",
    "VARCHAR": "text",
    "DATE": "2100-01-02",
    "TIMESTAMP": "2100-01-01 08:00:00",
}


@pytest.fixture(scope="session")
def table_settings() -> TablesSettings:
    return load_shipped(TablesSettings, "tables.yaml")


class Concepts:
    """Made-up rows of the tables; a concept is made, with those it is made of, when a query first names it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection, self.made = connection, set[str]()

    def execute(self, query: str) -> duckdb.DuckDBPyConnection:
        self._make_those_of(query, ORDER)
        return self.connection.execute(query)

    def _make_those_of(self, query: str, known: Sequence[str]) -> None:
        for name in re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", query, re.IGNORECASE):
            if name in known and name not in self.made:
                self.made.add(name)
                self._make_those_of(read_query(name), ORDER[: ORDER.index(name)])
                self.connection.execute(f"CREATE TABLE {name} AS {read_query(name)}")


@pytest.fixture(scope="session")
def empty_tables(table_settings: TablesSettings) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, table in table_settings.tables.items():
            columns = ", ".join(f"{column} {kind}" for column, kind in table.columns.items())
            connection.execute(f"CREATE TABLE {name} ({columns})")
        yield connection


@pytest.fixture
def concepts_of(empty_tables: duckdb.DuckDBPyConnection) -> Iterator[Callable[..., Concepts]]:
    """Concepts of the given rows, until others are given; columns left out are NULL, tables left out empty."""

    def fill(rows: dict[str, list[dict[str, Any]]]) -> Concepts:
        empty_tables.rollback()
        empty_tables.begin()
        for name, of_table in rows.items():
            for row in of_table:
                marks = ", ".join("?" * len(row))
                empty_tables.execute(
                    f"INSERT INTO {name} ({', '.join(row)}) VALUES ({marks})", [*row.values()]
                )
        return Concepts(empty_tables)

    empty_tables.begin()
    yield fill
    empty_tables.rollback()


@pytest.fixture(scope="session")
def demo_connection(mimic_demo: Path, demo_cache: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The demo's tables and concepts; tests only read from it."""
    with open_mimic(mimic_demo, cache=demo_cache, concepts=None) as tables:
        create_concepts(tables.connection, tables.concepts)
        yield tables.connection


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A throw-away server for the whole session."""
    with start_postgres() as server:
        yield server


@pytest.fixture
def small_root(tmp_path: Path, table_settings: TablesSettings) -> Path:
    """A MIMIC-IV root with one patient, one stay and one row in each other table."""
    root = tmp_path / "mimic"
    for name, table in table_settings.tables.items():
        row = {column: ANY_VALUE[kind] for column, kind in table.columns.items()}
        row |= {"itemid": str(table.itemids[0])} if table.items else {}
        row |= {"anchor_year_group": "2014 - 2016"} if name == "patients" else {}
        rows = [row]
        if name == "d_labitems":
            rows = [
                row | {"itemid": str(i), "label": label} for i, label in table_settings.lab_labels.items()
            ]
        write_table(root / table.folder / f"{name}.csv.gz", rows)
    return root


@pytest.fixture
def rewrite() -> Callable[[Path, Callable[[RawRows], RawRows]], None]:
    """Rewrites a raw table with its rows changed by a function."""

    def apply(file: Path, change: Callable[[RawRows], RawRows]) -> None:
        with gzip.open(file, "rt", newline="") as stream:
            rows = list(csv.DictReader(stream))
        write_table(file, change(rows))

    return apply


def write_table(file: Path, rows: RawRows) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
