"""A folder with `hosp` and `icu` as PhysioNet ships it: csv.gz, csv or parquet, whole or in shards."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import duckdb

from sepsis_cql.common.errors import TableError
from sepsis_cql.common.storage import sha256_file, sha256_json
from sepsis_cql.replay.mimic.checks import WHOLE, ZONE
from sepsis_cql.replay.mimic.raw_files import TableSettings, TablesSettings, escape, quote
from sepsis_cql.replay.mimic.sources.base import (
    GET_A_FRESH_COPY,
    MissingTableError,
    TableSource,
    find_tables,
    is_of_engine,
)

SUFFIXES = (".csv.gz", ".csv", ".parquet")
FOLDERS = {"hosp", "icu"}
LOOKED_AT = 1000  # rows of a csv file in which zones of times are looked for
DEPTH = 3  # folders between the one given and the one with `hosp` and `icu`, such as `mimiciv/3.1`
SHARD = r"{}[-_.]?(?:part[-_.]?)?\d+(?:-of-\d+)?\.parquet"
SYNTHETIC_MARK = "SYNTHETIC.json"


def is_meant(location: str) -> bool:
    """Whether `location` is a directory."""
    return Path(location).is_dir()


def open_source(location: str, settings: TablesSettings) -> TableSource:
    """Find each table below a folder.

    Raises:
        TableError: the folder is another database, or lacks a table or has one twice.
    """
    root = find_root(Path(location), settings)
    listing = root / "SHA256SUMS.txt"
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    published = frozenset(line.split()[0] for line in lines if line.strip())
    mark = root / SYNTHETIC_MARK
    folders = {path.name.casefold(): path for path in _list(root) if path.is_dir()}

    def find(name: str, table: TableSettings) -> FileTable:
        place = folders.get(table.folder, root / table.folder)
        if not (files := find_files(place, name)):
            raise MissingTableError(_not_one(place, name, "none"))
        return FileTable(files, published)

    return TableSource(
        where=str(root),
        tables=find_tables(settings, find),
        mark=mark if mark.exists() else None,
    )


def find_root(folder: Path, settings: TablesSettings) -> Path:
    """Return the folder with `hosp` and `icu`, in any case of letters: the one given, or the only one below it.

    Raises:
        TableError: it is another database, or there are several releases below it.
    """
    stems = {path.name.split(".")[0].casefold() for path in _list(folder)}
    for database, marks in settings.foreign_files.items():
        if found := sorted(stems & set(marks)):
            raise TableError(
                f"{folder}: found {', '.join(found)}, which are {database} files; expected MIMIC-IV 2.2 or 3.1 "
                "with its folders `hosp` and `icu`. Give --mimic the root of MIMIC-IV."
            )
    level = [folder]
    for _ in range(DEPTH):
        if roots := [path for path in level if FOLDERS & {inner.name.casefold() for inner in _list(path)}]:
            break
        level = [inner for path in level for inner in _list(path) if inner.is_dir()]
    if len(roots) > 1:
        names = ", ".join(str(root.relative_to(folder)) for root in roots)
        raise TableError(f"{folder}: found {names}, expected one release. Give --mimic one of them.")
    return roots[0] if roots else folder


def find_files(folder: Path, name: str) -> tuple[Path, ...]:
    """Return the files of a table, () if there are none: one of its name, or shards beside or in a folder of its name.

    Raises:
        TableError: the table is there twice.
    """
    inside = _list(folder)
    names = {f"{name}{suffix}" for suffix in SUFFIXES}
    found: list[tuple[Path, ...]] = [
        (path,) for path in inside if path.name.casefold() in names and path.is_file()
    ]
    shards = [path for path in inside if re.fullmatch(SHARD.format(name), path.name, re.I)]
    for path in inside:
        if path.is_dir() and path.name.casefold() in (name, f"{name}.parquet"):
            shards += [shard for shard in _list(path) if shard.suffix == ".parquet"]
    found += [tuple(shards)] if shards else []
    if len(found) > 1:
        raise TableError(_not_one(folder, name, ", ".join(files[0].name for files in found)))
    return found[0] if found else ()


@dataclass(frozen=True)
class FileTable:
    """A table as one file, or as parquet files that each hold a part of its rows.

    Attributes:
        files: in the order of their names.
        published: SHA-256 of every file of the release, where its list is beside the tables.
    """

    files: tuple[Path, ...]
    published: frozenset[str] = field(default_factory=frozenset)

    @property
    def where(self) -> str:
        """The file, or the folder of the shards."""
        return str(self.files[0] if len(self.files) == 1 else self.files[0].parent)

    @cached_property
    def _digests(self) -> list[str]:
        return [sha256_file(file) for file in self.files]

    def key(self) -> str:
        """Return the SHA-256 of the bytes."""
        return sha256_json(self._digests)

    def header(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return the columns in file order (the demo has ORIGINALAMOUNT among lower-case names)."""
        return self._parquet_header(connection) if self._is_parquet else _csv_header(self.files[0])

    def count(self, connection: duckdb.DuckDBPyConnection) -> int | None:
        """Return what the footers of parquet files say; a csv file is counted while it is read."""
        if not self._is_parquet:
            return None
        return int(connection.execute(f"SELECT count(*) FROM {self._parquet(connection)}").fetchall()[0][0])

    @contextmanager
    def relation(
        self, connection: duckdb.DuckDBPyConnection, header: list[str], table: TableSettings
    ) -> Iterator[str]:
        """Yield the rows of the file.

        A gzip file is checked against its own checksum at the same time, because a damaged one can still read
        as well-formed rows; one whose bytes are as published is intact.
        """
        file = self.files[0]
        is_unknown = file.suffix == ".gz" and not (self.published and set(self._digests) <= self.published)
        with ThreadPoolExecutor(1) as pool:
            check = pool.submit(_check_gzip, file) if is_unknown else None
            try:
                yield self._parquet(connection) if self._is_parquet else self._csv(connection, header, table)
            except duckdb.Error as error:
                if is_of_engine(error):
                    raise
                if check:
                    check.result()
                message = self._find_line(connection, header, table) or str(error)
                raise TableError(_explain(self.where, table, message)) from None
            if check:
                check.result()

    @property
    def _is_parquet(self) -> bool:
        return self.files[0].suffix == ".parquet"

    def _parquet(self, connection: duckdb.DuckDBPyConnection) -> str:
        names = ", ".join(escape(connection, file) for file in self.files)
        return f"read_parquet([{names}], hive_partitioning = false, union_by_name = true)"

    def _parquet_header(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        try:
            rows = connection.execute(f"DESCRIBE SELECT * FROM {self._parquet(connection)}").fetchall()
        except duckdb.Error:
            raise TableError(f"{self.where}: not a readable parquet file. {GET_A_FRESH_COPY}") from None
        return [row[0].casefold() for row in rows]

    def _csv(self, connection: duckdb.DuckDBPyConnection, header: list[str], table: TableSettings) -> str:
        """Return the relation of a csv file; of the items left out, most of a large table, only the item is parsed."""
        _refuse_zones(self.files[0], header, table)
        read_as = _read_as(table)
        if not table.items:
            return self._read_csv(connection, header, read_as)
        columns = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in read_as.items())
        texts = self._read_csv(connection, header, {"itemid": read_as["itemid"]})
        return f"(SELECT {columns} FROM {texts} WHERE itemid IN ({', '.join(map(str, table.itemids))}))"

    def _find_line(
        self, connection: duckdb.DuckDBPyConnection, header: list[str], table: TableSettings
    ) -> str | None:
        """Return what the reader of csv files says of the first value of another type, with its line."""
        if self._is_parquet:
            return None
        counts = ", ".join(f'count("{name}")' for name in table.columns)
        try:
            connection.execute(
                f"SELECT {counts} FROM {self._read_csv(connection, header, _read_as(table))}"
            ).fetchall()
        except duckdb.Error as error:
            return None if is_of_engine(error) else str(error)
        return None

    def _read_csv(
        self, connection: duckdb.DuckDBPyConnection, header: list[str], read_as: Mapping[str, str]
    ) -> str:
        kinds = ", ".join(f"{quote(name)}: {quote(read_as.get(name, 'VARCHAR'))}" for name in header)
        file = self.files[0]
        return (
            f"read_csv({escape(connection, file)}, hive_partitioning = false, "
            f"columns = {{{kinds}}}, header = true, auto_detect = false, delim = ',', quote = '\"', "
            f"escape = '\"', nullstr = '', compression = '{'gzip' if file.suffix == '.gz' else 'none'}')"
        )


def _read_as(table: TableSettings) -> dict[str, str]:
    # single precision by way of double, as servers and parquet files hold it: rounding the text at once differs
    doubled = {*WHOLE, "FLOAT"}
    return {name: "DOUBLE" if kind in doubled else kind for name, kind in table.columns.items()}


def _list(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except PermissionError:
        return []


def _not_one(folder: Path, name: str, found: str) -> str:
    expected = ", ".join(f"{name}{suffix}" for suffix in SUFFIXES)
    return (
        f"{folder}: found {found} of {expected}; expected exactly one, or numbered parquet shards. "
        f"Put the table `{name}` there, as PhysioNet ships it."
    )


def _csv_header(file: Path) -> list[str]:
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as stream:
            return [name.strip().casefold() for name in next(csv.reader(stream), [])]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TableError(f"{file}: truncated or corrupt ({error}). {GET_A_FRESH_COPY}") from None


def _refuse_zones(file: Path, header: list[str], table: TableSettings) -> None:
    """Refuse a file whose first rows have times with a zone, which the engine would drop without a word."""
    times = [index for index, name in enumerate(header) if table.columns.get(name) == "TIMESTAMP"]
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as stream:
            for row in islice(csv.reader(stream), 1, LOOKED_AT):
                if zoned := [header[i] for i in times if i < len(row) and ZONE.search(row[i])]:
                    raise TableError(
                        f"{file}: column {', '.join(zoned)} has a time zone, expected local times. {GET_A_FRESH_COPY}"
                    )
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error):
        return  # the engine says what is wrong with the file


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


def _explain(where: str, table: TableSettings, message: str) -> str:
    """Where the engine stopped, without the row it stopped at."""
    line = re.search(r"Line: (\d+)", message)
    where = f"{where}, line {line[1]}" if line else where
    if column := re.search(r'[Cc]olumn "?(\w+)"? is being converted|converting column "(\w+)"', message):
        name = column[1] or column[2]
        return f"{where}: column {name} holds a value that is no {table.columns[name]}. {GET_A_FRESH_COPY}"
    if wrong := re.search(r"column \w+ holds a value that is no [A-Z]+", message):
        return f"{where}: {wrong[0]}. {GET_A_FRESH_COPY}"
    if counts := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message):
        return f"{where}: found {counts[2]} columns, expected {counts[1]}. {GET_A_FRESH_COPY}"
    return f"{where}: unreadable as MIMIC-IV. {GET_A_FRESH_COPY}"
