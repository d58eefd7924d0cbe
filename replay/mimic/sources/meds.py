"""A MEDS extract of MIMIC-IV, events under MIMIC's own codes, with the tables it lacks as files beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
from pydantic import ConfigDict

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import sha256_file, sha256_json
from sepsis_cql.common.strict import Settings, read_record
from sepsis_cql.replay.mimic.raw_files import TableSettings, TablesSettings, escape
from sepsis_cql.replay.mimic.sources import folder
from sepsis_cql.replay.mimic.sources.base import (
    GET_A_FRESH_COPY,
    MissingTableError,
    SourceTable,
    TableSource,
    find_tables,
    is_of_engine,
)

QUERIES = Path(__file__).parents[2] / "sql" / "meds"
DATASET = Path("metadata", "dataset.json")
EVENTS = "meds_events"
NOT_AMONG_EVENTS = ("prescriptions", "microbiologyevents")
ITEMS = "true /* items */"
# beyond MEDS' own columns, which have types of their own
COLUMNS = {
    "hadm_id": "INTEGER",
    "icustay_id": "INTEGER",
    "order_id": "INTEGER",
    "link_order_id": "INTEGER",
    "unit": "VARCHAR",
    "race": "VARCHAR",
    "ordercategorydescription": "VARCHAR",
    "statusdescription": "VARCHAR",
}
NOTES = (
    "the tables are a MEDS extract: values count as known when they were charted, because it holds no times of filing",
    "the tables are a MEDS extract: what was drawn from a patient at one time counts as one blood gas specimen",
)


class Dataset(Settings):
    """What `metadata/dataset.json` says; other fields are of no interest here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    dataset_name: str
    dataset_version: str


def is_meant(location: str) -> bool:
    """Whether `location` is a directory with the metadata of a MEDS dataset."""
    return Path(location, DATASET).is_file()


def open_source(location: str, settings: TablesSettings) -> TableSource:
    """Take each table from a file beside the extract, in `hosp` or `icu`, or else from its events.

    Raises:
        TableError: it is not MIMIC-IV, or lacks a table that is not beside it either.
    """
    root = Path(location)
    dataset = read_record(Dataset, root / DATASET, expected="the metadata of a MEDS dataset")
    releases = {release for release in settings.tables["patients"].rows if release != "demo"}
    release = next((name for name in releases if dataset.dataset_version.startswith(name)), None)
    if not dataset.dataset_name.upper().startswith("MIMIC-IV") or release is None:
        raise TableError(
            f"{root / DATASET}: found {dataset.dataset_name} {dataset.dataset_version}, expected an extract of "
            f"MIMIC-IV {' or '.join(sorted(releases))}."
        )
    events = Events(root / "data")

    def find(name: str, table: TableSettings) -> SourceTable:
        if files := folder.find_files(root / table.folder, name):  # which hold more than the events
            return folder.FileTable(files)
        if (QUERIES / f"{name}.sql").exists():
            return MEDSTable(events, name)
        missing = [other for other in NOT_AMONG_EVENTS if not folder.find_files(root / "hosp", other)]
        raise MissingTableError(
            f"{root}: a MEDS extract holds no {' and no '.join(missing)}, without which there is no Sepsis-3: "
            "suspected infection is a culture with an antibiotic. Put MIMIC-IV's own files there: "
            f"{', '.join(f'hosp/{other}.csv.gz' for other in missing)}."
        )

    return TableSource(
        where=location,
        tables=find_tables(settings, find),
        release=release,
        notes=NOTES,
    )


@dataclass(frozen=True)
class Events:
    """The shards of an extract, hashed once for all tables."""

    directory: Path

    @cached_property
    def files(self) -> list[Path]:
        """Every parquet file of the extract."""
        if not (files := sorted(self.directory.rglob("*.parquet"))):
            raise TableError(
                f"{self.directory}: found no parquet file, expected the events of a MEDS dataset."
            )
        return files

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all their bytes."""
        return sha256_json([sha256_file(file) for file in self.files])

    def open(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the events readable on `connection` as `meds_events`."""
        names = ", ".join(escape(connection, file) for file in self.files)
        shards = f"read_parquet([{names}], union_by_name = true, hive_partitioning = false)"
        try:
            found = {row[0] for row in connection.execute(f"DESCRIBE FROM {shards}").fetchall()}
            columns = ['subject_id, "time", code, numeric_value, text_value']
            columns += [
                f"CAST({name if name in found else 'NULL'} AS {kind}) AS {name}"
                for name, kind in COLUMNS.items()
            ]
            connection.execute(
                f"CREATE OR REPLACE TEMP VIEW {EVENTS} AS SELECT {', '.join(columns)} FROM {shards}"
            )
        except duckdb.Error as error:
            if is_of_engine(error):
                raise
            raise TableError(
                f"{self.directory}: not readable as the events of a MEDS dataset. Extract them again."
            ) from None


@dataclass(frozen=True)
class MEDSTable:
    """A table put together from events by its query in `sql/meds`."""

    events: Events
    name: str

    @property
    def where(self) -> str:
        """The extract and the table."""
        return f"{self.events.directory}, events of {self.name}"

    def key(self) -> str:
        """Return the SHA-256 of the whole extract."""
        return self.events.digest

    def header(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return the columns that the query makes."""
        self.events.open(connection)
        return [row[0] for row in connection.execute(f"DESCRIBE {self._query}").fetchall()]

    def count(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return the rows of the query."""
        return int(connection.execute(f"SELECT count(*) FROM ({self._query})").fetchall()[0][0])

    @contextmanager
    def relation(
        self, connection: duckdb.DuckDBPyConnection, header: list[str], table: TableSettings
    ) -> Iterator[str]:
        """Yield the query, of the items wanted where it has a place for them."""
        kept = f"itemid IN ({', '.join(map(str, table.itemids))})" if table.items else "true"
        try:
            yield f"({self._query.replace(ITEMS, kept)})"
        except duckdb.Error as error:
            if is_of_engine(error):
                raise
            raise TableError(
                f"{self.where}: a code holds another thing than MIMIC-IV's. {GET_A_FRESH_COPY}"
            ) from None

    @property
    def _query(self) -> str:
        return (QUERIES / f"{self.name}.sql").read_text(encoding="utf-8")
