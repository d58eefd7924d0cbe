"""The official derived tables: their names, keys and columns, and our concepts written under them."""

from collections.abc import Callable, Collection
from pathlib import Path

import duckdb

from sepsis_cql.common.errors import SettingsError
from sepsis_cql.common.strict import SHIPPED, Settings, read_yaml
from sepsis_cql.replay.mimic.raw_files import quote


class OfficialConcept(Settings):
    """Columns of an official concept, and those that tell its rows apart."""

    key: list[str]
    columns: list[str]


def load_official_concepts() -> dict[str, OfficialConcept]:
    """Return the concepts of `configs/concepts.yaml`, by name."""
    values = read_yaml(SHIPPED / "concepts.yaml")
    return {name: OfficialConcept.model_validate(value) for name, value in values.items()}


def choose_concepts(only: Collection[str]) -> list[str]:
    """Return the concepts of these names, all where none is named.

    Raises:
        SettingsError: there is no concept of a name.
    """
    known = load_official_concepts()
    if unknown := sorted(set(only) - set(known)):
        raise SettingsError(
            f"concept {', '.join(unknown)}: found no such concept, expected some of {', '.join(known)}."
        )
    return [name for name in known if name in only or not only]


def write_concepts(
    connection: duckdb.DuckDBPyConnection,
    directory: Path,
    names: Collection[str],
    report: Callable[[str, int], None] = lambda text, left: None,
) -> dict[str, int]:
    """Write concepts to `<name>.parquet`, sorted, and return their row counts.

    Args:
        connection: holds the tables of `replay.mimic.concepts.create_concepts`.
        directory: where the files go.
        names: concepts to write.
        report: called with each concept that is written, and how many are left.
    """
    counts: dict[str, int] = {}
    for name, concept in load_official_concepts().items():
        if name not in names:
            continue
        report(name, len(names) - len(counts) - 1)
        columns = ", ".join(concept.columns)
        rest = [column for column in concept.columns if column not in concept.key]
        query = f"SELECT {columns} FROM {name} ORDER BY {', '.join([*concept.key, *rest])}"
        target = directory / f"{name}.parquet"
        counts[name] = connection.execute(f"COPY ({query}) TO {quote(target)} (FORMAT parquet)").fetchall()[
            0
        ][0]
    return counts
