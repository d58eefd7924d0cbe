"""The clinical concepts: derived tables under the names and columns of the official MIMIC-IV concepts."""

from pathlib import Path

import duckdb

from sepsis_cql.configs.loading import CONFIGS, Settings, read_yaml
from sepsis_cql.replay.raw_files import quote

SQL = Path(__file__).parent / "sql" / "concepts"

# Each file is one query, of the tables above it and of MIMIC-IV's own.
ORDER = (
    "age",
    "icustay_detail",
    "icustay_times",
    "icustay_hourly",
    "weight_durations",
    "vitalsign",
    "gcs",
    "bg",
    "sofa_lab",
    "urine_output",
    "urine_output_24h",
    "vasoactive_infusion",
    "vasoactive_agent",
    "norepinephrine_equivalent_dose",
    "ventilation",
    "sofa",
    "antibiotic",
    "suspicion_of_infection",
    "sepsis3",
)


class OfficialConcept(Settings):
    """Columns of an official concept, and those that tell its rows apart."""

    key: list[str]
    columns: list[str]


def load_official_concepts() -> dict[str, OfficialConcept]:
    """The concepts of `configs/concepts.yaml`, by name."""
    values = read_yaml(CONFIGS / "concepts.yaml")
    return {name: OfficialConcept.model_validate(value) for name, value in values.items()}


def create_concepts(connection: duckdb.DuckDBPyConnection) -> None:
    """Create one table a concept, from the views of `replay.tables.open_mimic`.

    Beyond the official columns, `gcs`, `bg` and `urine_output` end with `known_time`: when the last part of a
    row was filed, which is when a clinician could first see it.
    """
    for name in ORDER:
        connection.execute(f"CREATE TABLE {name} AS {read_query(name)}")


def read_query(name: str) -> str:
    """The query that defines a concept."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


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
