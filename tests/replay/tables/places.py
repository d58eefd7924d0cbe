"""The rows of one MIMIC-IV folder in other places, loaded as mimic-code's scripts load them."""

import gzip
import random
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pyarrow.parquet as pq
import sqlglot

from sepsis_cql.replay.mimic.raw_files import TableSettings

from ..made_up import ALL_TABLES

POSTGRES_TYPES = {"FLOAT": "FLOAT", "DOUBLE": "DOUBLE PRECISION", "VARCHAR": "VARCHAR(255)"}
TIMESTAMPS = {
    "labevents": "TIMESTAMP(0)",
    "microbiologyevents": "TIMESTAMP(0)",
    "prescriptions": "TIMESTAMP(3)",
}


def tables_of(root: Path) -> dict[str, TableSettings]:
    """The tables a folder has."""
    return {
        name: table
        for name, table in ALL_TABLES.tables.items()
        if (root / table.folder / f"{name}.csv.gz").exists()
    }


def create_tables(root: Path) -> list[str]:
    """Statements of mimic-code's create.sql for the columns read: FLOAT is double there, times are cut short."""
    statements = [f"CREATE SCHEMA mimiciv_{folder};" for folder in ("hosp", "icu", "derived")]
    for name, table in tables_of(root).items():
        kinds = POSTGRES_TYPES | {"TIMESTAMP": TIMESTAMPS.get(name, "TIMESTAMP")}
        columns = ", ".join(
            f"{column} {'CHAR(1)' if column == 'gender' else kinds.get(kind, kind)}"
            for column, kind in table.columns.items()
        )
        statements.append(f"CREATE TABLE mimiciv_{table.folder}.{name} ({columns});")
    return [*statements, "CREATE TABLE mimiciv_derived.icustays (stay_id INTEGER);"]


def unpack(root: Path, folder: Path, name: str) -> Path:
    """Decompress a table into `folder`."""
    folder.mkdir(exist_ok=True)
    target = folder / f"{name}.csv"
    target.write_bytes(
        gzip.decompress((root / ALL_TABLES.tables[name].folder / f"{name}.csv.gz").read_bytes())
    )
    return target


def nested_upper_case(root: Path, folder: Path) -> Path:
    for name, table in tables_of(root).items():
        place = folder / "mimiciv" / "3.1" / table.folder.upper()
        place.mkdir(parents=True, exist_ok=True)
        unpack(root, place, name).rename(place / f"{name.upper()}.csv")
    return folder


def parquet_shards(root: Path, folder: Path) -> Path:
    """Three shards a table, of some tables in a folder of its name, with the numbers in double precision."""
    for name, table in tables_of(root).items():
        place = folder / table.folder / (name if name.startswith("c") else "")
        place.mkdir(parents=True, exist_ok=True)
        kinds = {column: kind.replace("FLOAT", "DOUBLE") for column, kind in table.columns.items()}
        file = unpack(root, folder, name)
        rows = duckdb.sql(f"FROM read_csv('{file}', columns = {kinds}, header = true)").to_arrow_table()
        third = 1 + len(rows) // 3
        for number in range(3):
            pq.write_table(rows.slice(number * third, third), place / f"{name}-{number:05d}-of-00003.parquet")
    return folder


def duckdb_file(root: Path, folder: Path) -> Path:
    """A file as mimic-code's import script makes it, its rows in another order."""
    target = folder / "mimic4.db"
    with duckdb.connect(str(target)) as connection:
        for statement in create_tables(root):
            connection.execute(re.sub(r"TIMESTAMP\(\d\)", "TIMESTAMP", statement))
        for name, table in tables_of(root).items():
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
        for name, table in tables_of(root).items()
    ]
    return "\n".join([*create_tables(root), *loads])


def meds_events() -> str:
    """The query of all events, as MIMIC_IV_MEDS extracts them."""
    stay = "subject_id, hadm_id, stay_id AS icustay_id"
    unit = "|| '//' || coalesce(valueuom, 'UNK')"
    events = [
        ("subject_id, CAST(NULL AS TIMESTAMP)", "'GENDER//' || gender", "", "patients"),
        (
            "subject_id, make_timestamp(anchor_year - anchor_age, 1, 1, 0, 0, 0)",
            "'MEDS_BIRTH'",
            "",
            "patients",
        ),
        ("subject_id, CAST(dod AS TIMESTAMP)", "'MEDS_DEATH'", "", "patients WHERE dod IS NOT NULL"),
        ("subject_id, hadm_id, admittime", "'HOSPITAL_ADMISSION//UNK//UNK'", ", race", "admissions"),
        ("subject_id, hadm_id, dischtime", "'HOSPITAL_DISCHARGE//HOME'", "", "admissions"),
        (f"{stay}, intime", "'ICU_ADMISSION//' || first_careunit", "", "icustays"),
        (f"{stay}, outtime", "'ICU_DISCHARGE//' || last_careunit", "", "icustays"),
        (
            f"{stay}, charttime",
            f"'LAB//' || itemid {unit}",
            ", valuenum AS numeric_value, value AS text_value",
            "chartevents",
        ),
        (
            "subject_id, hadm_id, charttime",
            f"'LAB//' || itemid {unit}",
            ", valuenum AS numeric_value, value AS text_value",
            "labevents",
        ),
        (
            f"{stay}, starttime",
            "'INFUSION_START//' || itemid",
            ", rate AS numeric_value, rateuom AS unit",
            "inputevents",
        ),
        (
            f"{stay}, endtime",
            "'INFUSION_END//' || itemid",
            ", amount AS numeric_value, amountuom AS unit",
            "inputevents",
        ),
        (
            "subject_id, starttime",
            "'SUBJECT_WEIGHT_AT_INFUSION//KG'",
            ", patientweight AS numeric_value",
            "inputevents",
        ),
        (
            f"{stay}, charttime",
            f"'SUBJECT_FLUID_OUTPUT//' || itemid {unit}",
            ", value AS numeric_value",
            "outputevents",
        ),
        (
            "subject_id, hadm_id, CAST(NULL AS TIMESTAMP)",
            "'DIAGNOSIS//ICD//' || icd_version || '//' || icd_code",
            "",
            "diagnoses_icd",
        ),
        (
            "(SELECT min(subject_id) FROM patients) AS subject_id, starttime",
            "'PROCEDURE//START//' || itemid",
            "",
            "procedureevents",
        ),
    ]
    return " UNION ALL BY NAME ".join(
        f'SELECT {keys} AS "time", {code} AS code{values} FROM {table}'
        for keys, code, values, table in events
    )


def meds_extract(root: Path, folder: Path) -> Path:
    """Two shards of events, and beside them the two tables that are not among them."""
    with duckdb.connect() as connection:
        for name, table in tables_of(root).items():
            columns = ", ".join(f"'{column}': '{kind}'" for column, kind in table.columns.items())
            file = unpack(root, folder, name)
            connection.execute(
                f"CREATE VIEW {name} AS FROM read_csv('{file}', columns = {{{columns}}}, header = true)"
            )
        for shard in range(2):
            (folder / f"data/{shard}").mkdir(parents=True)
            connection.execute(
                f"COPY (FROM ({meds_events()}) WHERE subject_id IS NULL OR subject_id % 2 = {shard}) "
                f"TO '{folder}/data/{shard}/0.parquet'"
            )
    (folder / "metadata").mkdir()
    (folder / "metadata/dataset.json").write_text(
        '{"dataset_name": "MIMIC-IV", "dataset_version": "2.2:0.1.2", "etl_name": "MIMIC_IV_MEDS"}'
    )
    (folder / "hosp").mkdir()
    for name in ("prescriptions", "microbiologyevents"):
        shutil.copy(root / "hosp" / f"{name}.csv.gz", folder / "hosp")
    return folder


class NotFound(Exception):
    """As Google's client raises it."""

    __module__ = "google.api_core.exceptions"


class BigQuery:
    """Stands for `google.cloud.bigquery` over a DuckDB file: what the client is asked, it answers from there.

    Attributes:
        asked: job configuration of every query.
    """

    def __init__(self, database: Path) -> None:
        self.file = str(database)
        self.asked: list[SimpleNamespace] = []
        self.QueryJobConfig = SimpleNamespace

    def Client(self, project: str) -> "BigQuery":
        assert project == "payer"
        self.database = duckdb.connect(self.file, read_only=True)
        return self

    def get_table(self, reference: str) -> SimpleNamespace:
        try:
            rows = self.database.sql(f"FROM {self._table(reference)}").to_arrow_table()
        except duckdb.CatalogException as error:
            raise NotFound(f"404 {reference}") from error
        schema = [SimpleNamespace(name=name) for name in rows.column_names]
        return SimpleNamespace(schema=schema, num_rows=len(rows), modified="2024-10-11 00:00:00+00:00")

    def query(self, text: str, job_config: SimpleNamespace) -> SimpleNamespace:
        self.asked.append(job_config)
        text = sqlglot.transpile(self._table(text), read="bigquery", write="duckdb")[0]

        def result() -> SimpleNamespace:
            assert not getattr(job_config, "dry_run", False)
            rows = self.database.sql(text).to_arrow_table()
            return SimpleNamespace(to_arrow_iterable=lambda: iter(rows.to_batches(max_chunksize=100)))

        return SimpleNamespace(total_bytes_processed=3 * 2**30, result=result)

    def close(self) -> None:
        self.database.close()

    @staticmethod
    def _table(text: str) -> str:
        return re.sub(r"`?physionet-data\.mimiciv_2_2_(\w+)\.(\w+)`?", r"mimiciv_\1.\2", text)


def folder_twice(root: Path, folder: Path) -> Path:
    for release in ("2.2", "3.1"):
        shutil.copytree(root, folder / release)
    return folder
