"""MIMIC-IV, wherever it is kept, to a DuckDB connection with the tables, columns and items a build needs."""

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from sepsis_cql.common.errors import SettingsError, TableError
from sepsis_cql.common.ownership import private_files, scratch_directory
from sepsis_cql.common.storage import errno_of, sha256_json
from sepsis_cql.common.strict import load_shipped, read_record
from sepsis_cql.replay.mimic.checks import check_rows
from sepsis_cql.replay.mimic.concepts import FURTHER
from sepsis_cql.replay.mimic.raw_files import TablesSettings, parquet, quote
from sepsis_cql.replay.mimic.reading import TableRead, check_columns, open_table
from sepsis_cql.replay.mimic.sources.base import TableSource
from sepsis_cql.replay.mimic.sources.registry import open_source
from sepsis_cql.replay.records import Simulation

CHECKED_FIRST = ("patients", "admissions", "icustays", "d_labitems")
DISK_LIMIT = "32GB"


@dataclass(frozen=True)
class MimicTables:
    """Open tables; close them, or use them as a context manager.

    Attributes:
        connection: holds one view a table: patients, admissions, icustays, chartevents, labevents,
            inputevents, outputevents, procedureevents, prescriptions, microbiologyevents, d_items,
            d_labitems, and those that the concepts asked for need.
        source: "mimic-iv", "mimic-iv-demo" or "synthetic".
        version: "2.2" or "3.1"; for synthetic tables what their SYNTHETIC.json says.
        row_counts: rows of each table, before items are selected.
        concepts: those asked for whose tables are there.
        fingerprint: SHA-256 of the rows read of every table that a build reads, whatever their order and wherever they
            are kept.
        synthetic: what simulated the tables, or None.
        notes: what a reader of the build report must know of the place they are kept in.
    """

    connection: duckdb.DuckDBPyConnection
    source: str
    version: str
    row_counts: dict[str, int]
    concepts: tuple[str, ...]
    fingerprint: str
    synthetic: Simulation | None
    notes: tuple[str, ...]
    scratch: ExitStack

    def close(self) -> None:
        """Close the connection and delete the scratch files."""
        self.scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_mimic(
    location: Path | str,
    *,
    memory_limit: str | None = None,
    disk_limit: str | None = None,
    threads: int | None = None,
    cache: Path | None = None,
    scratch_parent: Path | None = None,
    items: Mapping[str, Iterable[int]] | None = None,
    concepts: Collection[str] | None = (),
) -> MimicTables:
    """Read every table once into a private cache of parquet files and open views over them.

    A cached table is keyed by its file's bytes and by the columns and items read, appears whole or not at
    all, and is used again by the next call, so that an interrupted read goes on where it stopped. Of a place
    that does not say whether rows changed, such as PostgreSQL, nothing is kept.

    Args:
        location: what --mimic names: a folder or one of the other places of `replay/mimic/sources`.
        memory_limit: most memory the engine may use, such as "8GB"; the rest spills to disk beside the cache.
        disk_limit: most it may spill, by default DISK_LIMIT.
        threads: most threads the engine may use.
        cache: directory to keep the cache in; without it the cache is temporary.
        scratch_parent: where a temporary cache goes, several GB for a whole release; by default the system's
            directory for temporary files.
        items: of some tables, to keep beside those that the concepts need.
        concepts: of `replay.concepts.FURTHER`, whose tables are read too; None for all whose tables are there.

    Raises:
        TableError: the place or a table is not what it should be.
        SettingsError: the engine does not understand a limit.
    """
    settings = load_shipped(TablesSettings, "tables.yaml").with_items(items or {})
    settings = settings.with_concepts(FURTHER if concepts is None else concepts)
    source = open_source(location, settings)
    possible = _find_possible(source, settings, concepts)
    if cache is not None:
        cache = Path(cache) / "mimic-tables"
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.mkdir(mode=0o700, exist_ok=True)
        cache.chmod(0o700)
    with ExitStack() as stack, closing(source), private_files():
        parent = cache or scratch_parent or Path(tempfile.gettempdir())
        scratch = stack.enter_context(scratch_directory(_check_name(parent)))
        connection = _connect(scratch, memory_limit, disk_limit or DISK_LIMIT, threads)
        stack.callback(connection.close)
        tables = _load(connection, source, settings, scratch, cache)
        return replace(tables, concepts=possible, scratch=stack.pop_all())


def _find_possible(
    source: TableSource, settings: TablesSettings, concepts: Collection[str] | None
) -> tuple[str, ...]:
    """The concepts asked for whose tables are there.

    Raises:
        TableError: a concept that was named needs a table that is not there.
    """
    missing = {name: table for name, table in settings.tables.items() if name not in source.tables}
    lost = {concept: name for name, table in missing.items() for concept in table.needed_by}
    if impossible := sorted(set(lost) & set(concepts or ())):
        name = lost[impossible[0]]
        source.close()
        raise TableError(
            f"{source.where}: the concept {impossible[0]} needs the table {name}, found none. Put "
            f"{missing[name].folder}/{name} there, as MIMIC-IV has it, or leave out {', '.join(impossible)}."
        )
    asked = FURTHER if concepts is None else concepts
    return tuple(name for name in FURTHER if name in asked and name not in lost)


def _check_name(parent: Path) -> Path:
    """Refuse the two characters in which the engine does not take a path of its files as it is."""
    if found := sorted({"\\", "?"} & set(str(parent.absolute()))):
        raise SettingsError(
            f"{parent}: found {' and '.join(found)} in the name of a directory, where the database engine cannot keep "
            "its files. Choose another place for --out or --cache."
        )
    return parent


def _connect(
    scratch: Path, memory_limit: str | None, disk_limit: str, threads: int | None
) -> duckdb.DuckDBPyConnection:
    """A database file in `scratch`, so that derived tables live on disk and memory stays bounded."""
    limits = {"memory_limit": memory_limit, "threads": threads}
    config = {name: value for name, value in limits.items() if value is not None}
    try:
        connection = duckdb.connect(
            str(scratch / "work.duckdb"), config={"temp_directory": str(scratch / "spill"), **config}
        )
        connection.execute(f"SET max_temp_directory_size = {quote(disk_limit)}")  # not heeded in `config`
    except duckdb.Error as error:
        if errno_of(error):
            raise
        raise SettingsError(
            f"memory limit {memory_limit!r}, disk limit {disk_limit!r}, threads {threads!r}: "
            f"{str(error).splitlines()[0]} Expected sizes such as 8GB and a number of at least 1."
        ) from None
    connection.execute("SET tracked_metrics = ['query.total_rows_scanned']")  # and no operator's time
    connection.execute("PRAGMA enable_profiling = 'no_output'")
    return connection


def _load(
    connection: duckdb.DuckDBPyConnection,
    source: TableSource,
    settings: TablesSettings,
    scratch: Path,
    cache: Path | None,
) -> MimicTables:
    """Open every table: first all headers and the small tables, so that a wrong place fails early."""
    headers = {name: table.header(connection) for name, table in source.tables.items()}
    for name, header in headers.items():
        check_columns(source.tables[name], header, settings.tables[name])
    read: dict[str, TableRead] = {}

    def open_tables(names: Iterable[str]) -> None:
        for name in names:
            table = settings.tables[name]
            cached = scratch / f"{name}.parquet"
            if cache and (key := source.tables[name].key()):
                cached = cache / f"{name}-{sha256_json([key, table.columns, table.itemids])[:16]}.parquet"
            read[name] = open_table(
                connection, source.tables[name], headers[name], table, scratch / "converted", cached
            )
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {parquet(connection, cached)}")
            check_rows(connection, name, source.tables[name].where, settings)

    open_tables(CHECKED_FIRST)
    row_counts = {name: table.rows for name, table in read.items()}
    kind, version, synthetic = _identify(connection, source, row_counts["patients"], settings)
    if synthetic is None and source.release is None:
        _check_lab_items(connection, source.tables["d_labitems"].where, settings)
    open_tables(name for name in source.tables if name not in CHECKED_FIRST)
    return MimicTables(
        connection=connection,
        source=kind,
        version=version,
        row_counts={name: read[name].rows for name in source.tables},
        concepts=(),
        fingerprint=sha256_json(
            {name: table.fingerprint for name, table in read.items() if not settings.tables[name].needed_by}
        ),
        synthetic=synthetic,
        notes=source.notes,
        scratch=ExitStack(),
    )


def _identify(
    connection: duckdb.DuckDBPyConnection, source: TableSource, n_patients: int, settings: TablesSettings
) -> tuple[str, str, Simulation | None]:
    """Source, version and synthetic mark.

    Only tables of exactly the demo's patients count as the open demo: a small extract of the credentialed
    release must never pass for it. A release is told by its number of patients, an extract of one by its
    latest `anchor_year_group`: 2020 - 2022 came with release 3.
    """
    if source.mark:
        synthetic = read_record(Simulation, source.mark, expected="the record `sepsis-cql synthesize` writes")
        return "synthetic", synthetic.version, synthetic
    ids = [row[0] for row in connection.execute("SELECT subject_id FROM patients ORDER BY 1").fetchall()]
    joined = ",".join(map(str, ids)).encode()
    if hashlib.sha256(joined).hexdigest() == settings.demo_patients_sha256:
        return "mimic-iv-demo", "2.2", None
    known = {rows: release for release, rows in settings.tables["patients"].rows.items() if release != "demo"}
    if release := source.release or known.get(n_patients):
        return "mimic-iv", release, None
    latest = connection.execute("SELECT max(anchor_year_group) FROM patients").fetchall()[0][0]
    return "mimic-iv", "3.1" if str(latest) >= "2020" else "2.2", None


def _check_lab_items(connection: duckdb.DuckDBPyConnection, where: str, settings: TablesSettings) -> None:
    """Refuse release 3.0, whose laboratory item ids mean other tests."""
    found = dict(connection.execute("SELECT itemid, label FROM d_labitems").fetchall())
    wrong = [
        f"{itemid} is {found.get(itemid)!r}, expected {label!r}"
        for itemid, label in settings.lab_labels.items()
        if str(found.get(itemid)).strip().casefold() != label.casefold()
    ]
    if wrong:
        raise TableError(
            f"{where}: column label of {len(wrong)} laboratory items is not the official one ({wrong[0]}). "
            "MIMIC-IV 3.0 has wrong laboratory item ids; use release 3.1 or 2.2."
        )
