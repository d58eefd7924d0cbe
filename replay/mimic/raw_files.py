"""One raw MIMIC-IV file (csv.gz, csv or parquet) to a parquet file of the columns and items needed."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import duckdb
from pydantic import Field

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import errno_of
from sepsis_cql.common.strict import Settings

SUFFIXES = (".csv.gz", ".csv", ".parquet")
GET_A_FRESH_COPY = "Download the file again and compare it with the release's SHA256SUMS.txt."


class TableSettings(Settings):
    """Where a table lies, which columns (name: SQL type) and items of it are read, its rows by release."""

    folder: str
    columns: dict[str, str]
    rows: dict[str, int]
    items: dict[str, list[int]] = Field(default_factory=dict)

    @property
    def itemids(self) -> list[int]:
        """Every item id to keep, sorted; empty means all rows."""
        return sorted({itemid for ids in self.items.values() for itemid in ids})


class TablesSettings(Settings):
    """The whole of `configs/tables.yaml`."""

    tables: dict[str, TableSettings]
    lab_labels: dict[int, str]
    demo_patients_sha256: str
    foreign_files: dict[str, list[str]]

    def with_items(self, items: Mapping[str, Iterable[int]]) -> Self:
        """Return the settings with more items of some tables, such as those of a build's features and fluids."""
        tables = {
            name: table.model_copy(update={"items": table.items | {"of the build": sorted(items[name])}})
            if name in items
            else table
            for name, table in self.tables.items()
        }
        return self.model_copy(update={"tables": tables})


def find_raw_files(root: Path, settings: TablesSettings) -> dict[str, Path]:
    """File of each table under `root`.

    Raises:
        TableError: `root` is absent, is another database, or lacks a table or has one twice.
    """
    if not root.is_dir():
        raise TableError(f"{root}: not a directory. Expected the MIMIC-IV root that holds `hosp` and `icu`.")
    stems = {path.name.split(".")[0].casefold() for path in root.iterdir()}
    for database, marks in settings.foreign_files.items():
        if found := sorted(stems & set(marks)):
            raise TableError(
                f"{root}: found {', '.join(found)}, which are {database} files; expected MIMIC-IV 2.2 or 3.1 "
                "with its folders `hosp` and `icu`. Give --mimic the root of MIMIC-IV."
            )
    return {name: _find(root / table.folder, name) for name, table in settings.tables.items()}


def read_header(connection: duckdb.DuckDBPyConnection, file: Path, table: TableSettings) -> list[str]:
    """Column names in file order, in lower case (the demo has ORIGINALAMOUNT among lower-case names).

    Raises:
        TableError: the file is unreadable, or a column that is needed is missing.
    """
    header = _parquet_header(connection, file) if file.suffix == ".parquet" else _csv_header(file)
    if missing := sorted(set(table.columns) - set(header)):
        raise TableError(
            f"{file}: column {', '.join(missing)} not found. Found {', '.join(header)}. {GET_A_FRESH_COPY}"
        )
    return header


def convert(
    connection: duckdb.DuckDBPyConnection,
    file: Path,
    header: list[str],
    table: TableSettings,
    target: Path,
    *,
    is_intact: bool = False,
) -> int:
    """Write the needed columns and items of one raw file to `target` and return the raw file's row count.

    A gzip file is checked against its own checksum at the same time, because a damaged one can still read
    as well-formed rows; `is_intact` says that this is known already.

    Raises:
        TableError: the file is damaged, holds a value of another type, or no row.
    """
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(_check_gzip, file) if file.suffix == ".gz" and not is_intact else None
        try:
            connection.execute(_copy_statement(connection, file, header, table, target))
        except duckdb.Error as error:
            if isinstance(error, duckdb.OutOfMemoryException | duckdb.InterruptException) or errno_of(error):
                raise
            if check:
                check.result()
            raise TableError(_explain(file, table, str(error))) from None
        if check:
            check.result()
    n_rows = _count_scanned(connection)
    if n_rows == 0:
        raise TableError(f"{file}: found no row under the header, expected at least one. {GET_A_FRESH_COPY}")
    return n_rows


def quote(text: object) -> str:
    """SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def escape(connection: duckdb.DuckDBPyConnection, file: Path) -> str:
    """SQL string literal of the one file of exactly that name: `*`, `?` and `[` in it match themselves only.

    Raises:
        TableError: the engine would read another file, or none.
    """
    pattern = re.sub(r"[*?[]", lambda found: f"[{found[0]}]", str(file.absolute()))
    try:
        matched = connection.execute("SELECT file FROM glob(?)", [pattern]).fetchall()
    except (duckdb.Error, UnicodeEncodeError):
        matched = []
    if matched != [(str(file.absolute()),)]:
        raise TableError(
            f"{file}: the database engine cannot open a path of this name as it is. Rename the file or its folders to "
            "letters, digits, spaces and hyphens."
        )
    return quote(pattern)


def parquet(connection: duckdb.DuckDBPyConnection, file: Path) -> str:
    """SQL relation of one parquet file; a folder named `a=b` adds no column."""
    return f"read_parquet({escape(connection, file)}, hive_partitioning = false)"


def _find(folder: Path, name: str) -> Path:
    expected = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    found = [path for path in expected if path.is_file()]
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise TableError(
        f"{folder}: found {names} of {', '.join(path.name for path in expected)}; expected exactly one. "
        f"Put the table `{name}` there, as PhysioNet ships it."
    )


def _parquet_header(connection: duckdb.DuckDBPyConnection, file: Path) -> list[str]:
    try:
        rows = connection.execute(f"DESCRIBE SELECT * FROM {parquet(connection, file)}").fetchall()
    except duckdb.Error:
        raise TableError(f"{file}: not a readable parquet file. {GET_A_FRESH_COPY}") from None
    return [row[0].casefold() for row in rows]


def _csv_header(file: Path) -> list[str]:
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as stream:
            return [name.strip().casefold() for name in next(csv.reader(stream), [])]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TableError(f"{file}: truncated or corrupt ({error}). {GET_A_FRESH_COPY}") from None


def _copy_statement(
    connection: duckdb.DuckDBPyConnection, file: Path, header: list[str], table: TableSettings, target: Path
) -> str:
    if file.suffix == ".parquet":
        columns = ", ".join(f'CAST("{name}" AS {kind}) AS {name}' for name, kind in table.columns.items())
        source = parquet(connection, file)
    else:
        columns = ", ".join(f'"{name}"' for name in table.columns)
        kinds = ", ".join(f"{quote(name)}: {quote(table.columns.get(name, 'VARCHAR'))}" for name in header)
        compression = "gzip" if file.suffix == ".gz" else "none"
        source = (
            f"read_csv({escape(connection, file)}, hive_partitioning = false, "
            f"columns = {{{kinds}}}, header = true, auto_detect = false, "
            f"delim = ',', quote = '\"', escape = '\"', nullstr = '', compression = '{compression}')"
        )
    kept = f"WHERE itemid IN ({', '.join(map(str, table.itemids))})" if table.items else ""
    return f"COPY (SELECT {columns} FROM {source} {kept}) TO {quote(target)} (FORMAT parquet)"


def _count_scanned(connection: duckdb.DuckDBPyConnection) -> int:
    """Rows the last statement read from its file, which is how the file is counted without a second read."""
    profile = json.loads(connection.get_profiling_information(format="json"))
    return sum(
        node["rows_scanned"] for node in _operators(profile["operator"]) if node["type"] == "TABLE_SCAN"
    )


def _operators(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        yield node
        yield from _operators(node.get("children", []))


def _check_gzip(file: Path) -> None:
    """Inflate the file, which makes zlib compare each member's checksum and length."""
    inflate = zlib.decompressobj(wbits=31)
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                while chunk:
                    inflate = zlib.decompressobj(wbits=31) if inflate.eof else inflate
                    inflate.decompress(chunk)
                    chunk = inflate.unused_data
    except zlib.error as error:
        raise TableError(f"{file}: truncated or corrupt ({error}). {GET_A_FRESH_COPY}") from None
    if not inflate.eof:
        raise TableError(f"{file}: truncated (the gzip stream has no end). {GET_A_FRESH_COPY}")


def _explain(file: Path, table: TableSettings, message: str) -> str:
    """Where the engine stopped, without the row it stopped at."""
    line = re.search(r"Line: (\d+)", message)
    where = f"{file}, line {line[1]}" if line else f"{file}"
    if column := re.search(r'[Cc]olumn "?(\w+)"? is being converted|converting column "(\w+)"', message):
        name = column[1] or column[2]
        return f"{where}: column {name} holds a value that is no {table.columns[name]}. {GET_A_FRESH_COPY}"
    if counts := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message):
        return f"{where}: found {counts[2]} columns, expected {counts[1]}. {GET_A_FRESH_COPY}"
    return f"{where}: unreadable as MIMIC-IV ({message.splitlines()[0]}). {GET_A_FRESH_COPY}"
