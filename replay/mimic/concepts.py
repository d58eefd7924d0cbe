"""The clinical concepts: derived tables under the names and columns of the official MIMIC-IV concepts."""

from collections.abc import Collection
from pathlib import Path

import duckdb

SQL = Path(__file__).parents[1] / "sql" / "concepts"

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
    "oxygen_delivery",
    "ventilator_setting",
    "ventilation",
    "sofa",
    "antibiotic",
    "suspicion_of_infection",
    "sepsis3",
    "code_status",
    "height",
    "crrt",
    "rrt",
)

# Made where they are asked for, of the tables above and of each other.
FURTHER = {
    "score_lab": ("first_day_sofa", "oasis", "sapsii"),
    "first_day": ("first_day_sofa", "oasis"),
    "first_day_sofa": (),
    "kdigo_creatinine": ("kdigo_stages",),
    "kdigo_uo": ("kdigo_stages",),
    "kdigo_stages": (),
    "charlson": (),
    "oasis": (),
    "sapsii": (),
}

# What a build reads more than once, and the end of a long chain; of the others it reads a few columns once, or nothing.
ALWAYS_TABLES = {"vasoactive_infusion", "ventilation", "sofa", "sepsis3"}


def create_concepts(connection: duckdb.DuckDBPyConnection, further: Collection[str] = ()) -> None:
    """Create one relation a concept, from the views of `replay.tables.open_mimic`.

    All are tables where some of `FURTHER` are asked for, which read others again and again; else most are views, of
    which only what a build takes is computed.

    Beyond the official columns, `gcs`, `bg`, `urine_output` and `code_status` end with `known_time`: when the last part
    of a row was filed, which is when a clinician could first see it.

    Args:
        connection: holds the tables.
        further: concepts of `FURTHER` to make too.
    """
    for name in (*ORDER, *(name for name in FURTHER if {name, *FURTHER[name]} & set(further))):
        kind = "TABLE" if further or name in ALWAYS_TABLES else "VIEW"
        connection.execute(f"CREATE {kind} {name} AS {read_query(name)}")


def read_query(name: str) -> str:
    """The query that defines a concept."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")
