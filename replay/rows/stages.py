"""Runs the SQL files of `sql/trajectories`: each is one query whose rows become the table of its name."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from sepsis_cql.replay.settings import ReplaySettings

STAGES = Path(__file__).parents[1] / "sql" / "trajectories"


def run_stage(connection: duckdb.DuckDBPyConnection, name: str, **parameters: object) -> None:
    """Create the temporary table `name` from `sql/trajectories/<name>.sql`.

    Args:
        connection: holds the relations the query reads.
        name: of the file and of the table.
        parameters: values of the query's `$name` parameters.
    """
    query = (STAGES / f"{name}.sql").read_text(encoding="utf-8")
    connection.execute(f"create or replace temp table {name} as {query}", parameters)


def define_known_at(connection: duckdb.DuckDBPyConnection, settings: ReplaySettings) -> None:
    """Create the SQL function `known_at`: a value exists once filed, and never before it was charted."""
    rule = {"charttime": "charted", "storetime": "greatest(charted, coalesce(filed, charted))"}
    connection.execute(
        f"create or replace temp macro known_at(charted, filed) as {rule[settings.availability]}"
    )


def register_facts(connection: duckdb.DuckDBPyConnection, facts: dict[str, list[dict[str, Any]]]) -> None:
    """Create a temporary table of each list of rows under its name."""
    for name, rows in facts.items():
        connection.register("facts", pa.Table.from_pylist(rows))
        connection.execute(f"create or replace temp table {name} as select * from facts")
        connection.unregister("facts")
