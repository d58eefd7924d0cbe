"""How far our derived tables agree with reference tables of the official concepts, row by row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import errno_of
from sepsis_cql.replay.mimic.raw_files import parquet
from sepsis_cql.replay.report.official import OfficialConcept, load_official_concepts

TOLERANCE = 1e-6
DECIMALS = 7  # rows alike to this many decimals are equal at once; the rest is paired and measured
NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN")


@dataclass(frozen=True)
class ConceptAgreement:
    """Agreement of one concept.

    Attributes:
        concept: its name.
        compared: rows whose key both sides have.
        equal: those of them that are equal in every column, numbers to 1e-6.
        only_ours: rows of the reference's patients that the reference lacks.
        only_theirs: rows of the reference that we lack.
        largest_difference: between two numbers of one column, over the compared rows.
        different_columns: number of unequal compared rows by column.
    """

    concept: str
    compared: int
    equal: int
    only_ours: int
    only_theirs: int
    largest_difference: float
    different_columns: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether both sides hold exactly the same rows."""
        return self.compared == self.equal and not self.only_ours and not self.only_theirs


def compare_concepts(
    connection: duckdb.DuckDBPyConnection,
    reference: Path,
    report: Callable[[str, int], None] = lambda text, left: None,
) -> list[ConceptAgreement]:
    """Compare the concepts on `connection` with every parquet file in `reference`.

    Our rows are restricted to the patients that any of the files holds, so a reference may cover only some
    patients; a file that has `stay_id` but no `subject_id` names its patients by their stays.

    Args:
        connection: holds the tables of `replay.mimic.concepts.create_concepts`.
        reference: directory of `<concept>.parquet` files with the official columns; others are ignored.
        report: called with each concept that is compared, and how many are left.

    Raises:
        TableError: the directory holds no such file, an unknown one, or one that lacks a column.
    """
    files = find_references(reference)
    columns = {name: _column_kinds(connection, parquet(connection, file)) for name, file in files.items()}
    for name, concept in load_official_concepts().items():
        if name in files and (missing := sorted(set(concept.columns) - set(columns[name]))):
            raise TableError(
                f"{files[name]}: column {', '.join(missing)} not found; found {', '.join(columns[name])}. "
                f"Expected the columns of the official concept `{name}`."
            )
    patients = " UNION ".join(_patients(connection, file, columns[name]) for name, file in files.items())
    with _without_cells(
        f"{reference}: a column subject_id or stay_id has another type than the official concepts"
    ):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE reference_patients AS {patients}")
    results: list[ConceptAgreement] = []
    for name, concept in load_official_concepts().items():
        if name in files:
            report(name, len(files) - len(results) - 1)
            results.append(_compare(connection, name, concept, files[name]))
    return results


def compare_relations(
    connection: duckdb.DuckDBPyConnection, name: str, concept: OfficialConcept, ours: str, theirs: str
) -> ConceptAgreement:
    """Compare two relations, table names or queries in parentheses, that have a concept's columns.

    Rows equal in all columns are set aside as often as both sides hold them. The rest is paired by key and,
    where a key repeats, by rank, so that repeated rows and ties need no order.
    """
    kinds = _column_kinds(connection, f"(SELECT {', '.join(concept.columns)} FROM {ours})")
    for side, relation in (("ours", ours), ("theirs", theirs)):
        values = ", ".join(f"{_comparable(column, kind)} AS {column}" for column, kind in kinds.items())
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {side} AS SELECT {values} FROM {relation}")
    n_ours = connection.execute("SELECT count(*) FROM ours").fetchall()[0][0]
    for side, other in (("ours", "theirs"), ("theirs", "ours")):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {side}_left AS SELECT *, ROW_NUMBER() OVER "
            f"(PARTITION BY {', '.join(concept.key)} ORDER BY {', '.join(concept.columns)}) AS copy "
            f"FROM (FROM {side} EXCEPT ALL FROM {other})"
        )
    n_left, n_pairs, n_different, n_only_theirs, largest, *by_column = connection.execute(
        _pairing(concept, kinds)
    ).fetchall()[0]
    different = {column: n for column, n in zip(kinds, by_column, strict=True) if n}
    n_equal = n_ours - n_left + n_pairs - n_different
    return ConceptAgreement(
        name, n_ours - n_left + n_pairs, n_equal, n_left - n_pairs, n_only_theirs, largest, different
    )


def _compare(
    connection: duckdb.DuckDBPyConnection, name: str, concept: OfficialConcept, file: Path
) -> ConceptAgreement:
    patients = "SELECT subject_id FROM reference_patients"
    if "subject_id" in concept.columns:
        ours = f"(FROM {name} WHERE subject_id IN ({patients}))"
    else:
        ours = (
            f"(FROM {name} WHERE stay_id IN (SELECT stay_id FROM icustays WHERE subject_id IN ({patients})))"
        )
    with _without_cells(f"{file}: a column has another type than the official concept `{name}`"):
        return compare_relations(connection, name, concept, ours, parquet(connection, file))


@contextmanager
def _without_cells(problem: str) -> Iterator[None]:
    """Say what is wrong in our words: the engine's can quote a cell of a patients' table."""
    try:
        yield
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException) or errno_of(error):
            raise
        raise TableError(
            f"{problem} ({type(error).__name__}). Write it again from the official concepts."
        ) from None


def find_references(reference: Path) -> dict[str, Path]:
    """Return the file of each concept in a directory.

    Raises:
        TableError: it holds none, or one of no official concept.
    """
    known = load_official_concepts()
    files = {file.stem: file for file in sorted(Path(reference).glob("*.parquet"))}
    if not files or (unknown := sorted(set(files) - set(known))):
        found = f"{', '.join(unknown)}.parquet" if files else "no parquet file"
        raise TableError(
            f"{reference}: found {found}; expected files named after official concepts: "
            f"{', '.join(f'{name}.parquet' for name in known)}."
        )
    return files


def _column_kinds(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    with _without_cells(f"{relation}: not a readable parquet file"):
        return {row[0]: row[1] for row in connection.execute(f"DESCRIBE FROM {relation}").fetchall()}


def _patients(connection: duckdb.DuckDBPyConnection, file: Path, columns: dict[str, str]) -> str:
    relation = parquet(connection, file)
    if "subject_id" in columns:
        return f"SELECT CAST(subject_id AS BIGINT) AS subject_id FROM {relation}"
    return f"SELECT subject_id FROM icustays WHERE stay_id IN (SELECT stay_id FROM {relation})"


def _is_number(kind: str) -> bool:
    return kind.startswith(NUMBERS)


def _comparable(column: str, kind: str) -> str:
    """One type for all numbers and one for all times, with NaN as NULL: parquet writers differ in both."""
    if _is_number(kind):
        number = f"CAST({column} AS DOUBLE)"
        return f"CASE WHEN NOT isnan({number}) THEN ROUND({number}, {DECIMALS}) END"
    return f"CAST({column} AS {'TIMESTAMP' if kind in ('DATE', 'TIMESTAMP') else 'VARCHAR'})"


def _pairing(concept: OfficialConcept, kinds: dict[str, str]) -> str:
    differs, sizes = [], ["0"]
    for column, kind in kinds.items():
        if _is_number(kind):
            size = f"abs(o.{column} - t.{column})"
            sizes.append(f"max({size})")
            differs.append(f"coalesce({size} > {TOLERANCE} * 1.001, o.{column} IS DISTINCT FROM t.{column})")
        else:
            differs.append(f"o.{column} IS DISTINCT FROM t.{column}")
    same_key = " AND ".join(
        f"o.{column} IS NOT DISTINCT FROM t.{column}" for column in [*concept.key, "copy"]
    )
    paired = "o.copy IS NOT NULL AND t.copy IS NOT NULL"
    counts = [
        "count(o.copy)",
        f"count(*) FILTER ({paired})",
        f"count(*) FILTER ({paired} AND ({' OR '.join(differs)}))",
        "count(*) FILTER (o.copy IS NULL)",
        f"greatest({', '.join(sizes)})",
        *(f"count(*) FILTER ({paired} AND {differ})" for differ in differs),
    ]
    return f"SELECT {', '.join(counts)} FROM ours_left AS o FULL JOIN theirs_left AS t ON {same_key}"
