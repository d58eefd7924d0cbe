"""The rows of one MIMIC-IV folder in other places, loaded as mimic-code's scripts load them."""

import gzip
import random
import re
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ..made_up import TABLES

POSTGRES_TYPES = {"FLOAT": "FLOAT", "DOUBLE": "DOUBLE PRECISION", "VARCHAR": "VARCHAR(255)"}
TIMESTAMPS = {
    "labevents": "TIMESTAMP(0)",
    "microbiologyevents": "TIMESTAMP(0)",
    "prescriptions": "TIMESTAMP(3)",
}


def create_tables() -> list[str]:
    """Statements of mimic-code's create.sql for the columns read: FLOAT is double there, times are cut short."""
    statements = [f"CREATE SCHEMA mimiciv_{folder};" for folder in ("hosp", "icu", "derived")]
    for name, table in TABLES.tables.items():
        kinds = POSTGRES_TYPES | {"TIMESTAMP": TIMESTAMPS.get(name, "TIMESTAMP")}
        columns = ", ".join(
            f"{column} {'CHAR(1)' if column == 'gender' else kinds.get(kind, kind)}"
            for column, kind in table.columns.items()
        )
        statements.append(f"CREATE TABLE mimiciv_{table.folder}.{name} ({columns});")
    return [*statements, "CREATE TABLE mimiciv_derived.icustays (stay_id INTEGER);"]


def unpack(root: Path, folder: Path, name: str) -> Path:
    """Decompress a table into `folder`."""
    target = folder / f"{name}.csv"
    target.write_bytes(gzip.decompress((root / TABLES.tables[name].folder / f"{name}.csv.gz").read_bytes()))
    return target


def nested_upper_case(root: Path, folder: Path) -> Path:
    for name, table in TABLES.tables.items():
        place = folder / "mimiciv" / "3.1" / table.folder.upper()
        place.mkdir(parents=True, exist_ok=True)
        unpack(root, place, name).rename(place / f"{name.upper()}.csv")
    return folder


def parquet_shards(root: Path, folder: Path) -> Path:
    """Three shards a table, of some tables in a folder of its name, with the numbers in double precision."""
    for name, table in TABLES.tables.items():
        place = folder / table.folder / (name if name.startswith("c") else "")
        place.mkdir(parents=True, exist_ok=True)
        columns = ", ".join(f"'{column}': '{kind}'" for column, kind in table.columns.items())
        file = unpack(root, folder, name)
        rows = duckdb.sql(f"FROM read_csv('{file}', columns = {{{columns}}}, header = true)").to_arrow_table()
        rows = rows.cast(
            pa.schema([f.with_type(pa.float64()) if f.type == pa.float32() else f for f in rows.schema])
        )
        third = 1 + len(rows) // 3
        for number in range(3):
            pq.write_table(rows.slice(number * third, third), place / f"{name}-{number:05d}-of-00003.parquet")
    return folder


def duckdb_file(root: Path, folder: Path) -> Path:
    """A file as mimic-code's import script makes it, its rows in another order."""
    target = folder / "mimic4.db"
    with duckdb.connect(str(target)) as connection:
        for statement in create_tables():
            connection.execute(re.sub(r"TIMESTAMP\(\d\)", "TIMESTAMP", statement))
        for name, table in TABLES.tables.items():
            file = unpack(root, folder, name)
            header, *lines = file.read_text().splitlines(keepends=True)
            random.Random(name).shuffle(lines)
            file.write_text(header + "".join(lines))
            connection.execute(
                f"COPY mimiciv_{table.folder}.{name} FROM '{file}' (HEADER, DELIM ',', QUOTE '\"', ESCAPE '\"')"
            )
    return target


def postgres_script(root: Path, folder: Path) -> str:
    """What mimic-code's create.sql and load.sql do."""
    loads = [
        f"\\copy mimiciv_{table.folder}.{name} FROM '{unpack(root, folder, name)}' "
        "DELIMITER ',' CSV HEADER NULL ''"
        for name, table in TABLES.tables.items()
    ]
    return "\n".join([*create_tables(), *loads])


def folder_twice(root: Path, folder: Path) -> Path:
    for release in ("2.2", "3.1"):
        shutil.copytree(root, folder / release)
    return folder
