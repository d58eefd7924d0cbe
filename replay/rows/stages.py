"""Runs the SQL files of `sql/trajectories`: each is one query whose rows become the table of its name."""

from pathlib import Path

import duckdb

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
