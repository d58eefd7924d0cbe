"""MIMIC-IV on BigQuery, read by Google's own client; needs the extra `bigquery`."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import typer

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import sha256_json
from sepsis_cql.replay.mimic.raw_files import TableSettings, TablesSettings
from sepsis_cql.replay.mimic.sources.base import MissingTableError, TableSource, find_tables, streamed

SCHEME = "bigquery://"
ADDRESS = re.compile(
    r"bigquery://(?P<billed>[a-z][a-z0-9-]*)/(?P<project>[a-z][a-z0-9-]*)/(?P<datasets>\w+)(\?most_gib=(?P<most>\d+))?"
)
EXAMPLE = "bigquery://my-project/physionet-data/mimiciv_3_1"
INSTALL = "pip install 'sepsis-cql[bigquery]'"
GIB = 2**30
LEAST_BILLED = 11 * 2**20  # Google bills at least 10 MiB a table


def is_meant(location: str) -> bool:
    """Whether `location` is an address on BigQuery."""
    return location.startswith(SCHEME)


def open_source(location: str, settings: TablesSettings) -> TableSource:
    """Find each table, let the server say what reading them costs, and ask whether to go on.

    Args:
        location: as `bigquery://PROJECT_THAT_PAYS/PROJECT/DATASETS`, where DATASETS_hosp and DATASETS_icu hold the
            tables; `?most_gib=N` agrees to so many GiB without being asked.
        settings: what is read of the tables.

    Raises:
        TableError: the client is not installed or has no access, a table is not there, or nobody agreed to the cost.
    """
    parts = ADDRESS.fullmatch(location)
    if parts is None:
        raise TableError(f"{location}: not an address on BigQuery. Expected such as {EXAMPLE}.")
    try:
        from google.cloud import bigquery
    except ImportError:
        raise TableError(f"{location}: needs the client of BigQuery. Install it: {INSTALL}.") from None
    with _explained(location):
        client = bigquery.Client(project=parts["billed"])
    places = f"{parts['project']}.{parts['datasets']}"

    def find(name: str, table: TableSettings) -> BigQueryTable:
        reference = f"{places}_{table.folder}.{name}"
        with _explained(reference):
            found = client.get_table(reference)
            query = _query(reference, table)
            trial = client.query(
                query, job_config=bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
            )
        most = max(trial.total_bytes_processed, LEAST_BILLED)
        limit = bigquery.QueryJobConfig(maximum_bytes_billed=most)
        return BigQueryTable(client, found, reference, query, limit)

    tables = find_tables(settings, find)
    _agree(parts["billed"], sum(table.limit.maximum_bytes_billed for table in tables.values()), parts["most"])
    return TableSource(where=location, tables=tables, close=client.close)


@dataclass(frozen=True)
class BigQueryTable:
    """A table whose rows are streamed in batches.

    Attributes:
        client: of the project that pays.
        table: its metadata.
        where: project, dataset and table.
        query: of the columns and items that are read.
        limit: configuration of the query, which never bills more than was agreed to.
    """

    client: Any
    table: Any
    where: str
    query: str
    limit: Any

    def key(self) -> str:
        """Return when the table last changed."""
        return sha256_json([self.where, str(self.table.modified)])

    def header(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return the columns of the table."""
        return [field.name.casefold() for field in self.table.schema]

    def count(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return the rows of the table, which its metadata tell."""
        return int(self.table.num_rows)

    @contextmanager
    def relation(
        self, connection: duckdb.DuckDBPyConnection, header: list[str], table: TableSettings
    ) -> Iterator[str]:
        """Yield the items wanted, as the server sends them."""
        with _explained(self.where):
            batches = iter(self.client.query(self.query, job_config=self.limit).result().to_arrow_iterable())
            first = next(batches, None)
        if first is None:
            raise TableError(f"{self.where}: found no row that is needed, expected some. Check the dataset.")

        def rest() -> Iterator[pa.RecordBatch]:
            yield first
            yield from batches

        reader = pa.RecordBatchReader.from_batches(first.schema, rest())
        with streamed(connection, reader, self.where) as relation:
            yield relation


def _query(reference: str, table: TableSettings) -> str:
    columns = ", ".join(f"`{name}`" for name in table.columns)
    kept = f" WHERE itemid IN ({', '.join(map(str, table.itemids))})" if table.items else ""
    return f"SELECT {columns} FROM `{reference}`{kept}"


def _agree(project: str, n_bytes: int, most: str | None) -> None:
    """Say what will be billed and go on only if that is agreed to, by `most_gib` or on the terminal.

    Raises:
        TableError: nobody agreed.
    """
    cost = f"The queries read {n_bytes / GIB:.1f} GiB, which Google bills to the project {project}."
    if most is None and sys.stdin.isatty() and typer.confirm(f"{cost} Go on?", err=True):
        return
    if most is not None and n_bytes <= int(most) * GIB:
        typer.echo(cost, err=True)
        return
    raise TableError(
        f"{cost} That was not agreed to, so nothing was read. Answer yes on a terminal, or end the address with "
        f"`?most_gib={-(-n_bytes // GIB)}`."
    )


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn an error of Google's client into one of ours."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("google."):
            raise
        refused = MissingTableError if type(error).__name__ == "NotFound" else TableError
        raise refused(
            f"{where}: BigQuery refused ({type(error).__name__}); expected access to MIMIC-IV there. Log in by `gcloud "
            "auth application-default login` with the account that PhysioNet knows, and check the address."
        ) from None
