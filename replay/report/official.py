"""The official derived tables: their names, keys and columns, and our concepts written under them."""

from pathlib import Path

import duckdb

from sepsis_cql.common.strict import SHIPPED, Settings, read_yaml
from sepsis_cql.replay.mimic.raw_files import quote


class OfficialConcept(Settings):
    """Columns of an official concept, and those that tell its rows apart."""

    key: list[str]
    columns: list[str]


def load_official_concepts() -> dict[str, OfficialConcept]:
    """The concepts of `configs/concepts.yaml`, by name."""
    values = read_yaml(SHIPPED / "concepts.yaml")
    return {name: OfficialConcept.model_validate(value) for name, value in values.items()}


def write_concepts(connection: duckdb.DuckDBPyConnection, directory: Path) -> dict[str, int]:
    """Write every official concept to `<name>.parquet`, sorted, and return their row counts."""
    counts = {}
    for name, concept in load_official_concepts().items():
        columns = ", ".join(concept.columns)
        rest = [column for column in concept.columns if column not in concept.key]
        query = f"SELECT {columns} FROM {name} ORDER BY {', '.join([*concept.key, *rest])}"
        target = directory / f"{name}.parquet"
        counts[name] = connection.execute(f"COPY ({query}) TO {quote(target)} (FORMAT parquet)").fetchall()[
            0
        ][0]
    return counts
