"""Numbers of single precision are the same bits wherever double precision or text is kept: the demo's infusions."""

import duckdb
import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.reading import convert
from sepsis_cql.replay.mimic.row_fingerprint import fingerprint_rows
from sepsis_cql.replay.mimic.sources import postgresql
from sepsis_cql.replay.mimic.sources.folder import FileTable

from .places import unpack

NAME = "inputevents"
TABLE = load_shipped(TablesSettings, "tables.yaml").tables[NAME].model_copy(update={"items": {}})


def fingerprint(source, tmp_path):
    with duckdb.connect() as connection:
        connection.execute("PRAGMA enable_profiling = 'no_output'")
        convert(connection, source, source.header(connection), TABLE, tmp_path / "converted.parquet")
    return fingerprint_rows(tmp_path / "converted.parquet")


@pytest.fixture
def kept_as(mimic_demo, tmp_path):
    """The demo's infusions as parquet, with numbers of one kind."""

    def write(kind):
        kinds = {name: each.replace("FLOAT", kind) for name, each in TABLE.columns.items()}
        rows = f"read_csv('{mimic_demo}/icu/{NAME}.csv.gz', types = {kinds}, normalize_names = false)"
        duckdb.sql(f"SELECT {', '.join(TABLE.columns)} FROM {rows}").write_parquet(
            str(tmp_path / f"{NAME}.parquet")
        )
        return FileTable((tmp_path / f"{NAME}.parquet",))

    return write


@pytest.fixture
def of_text(mimic_demo, tmp_path):
    return fingerprint(FileTable((mimic_demo / f"icu/{NAME}.csv.gz",)), tmp_path)


def test_text_and_double_precision_give_the_same_bits(of_text, kept_as, tmp_path):
    assert fingerprint(kept_as("DOUBLE"), tmp_path) == of_text


def test_single_precision_rounded_from_the_text_is_another(of_text, kept_as, tmp_path):
    assert fingerprint(kept_as("FLOAT"), tmp_path) != of_text


def test_postgresql_gives_the_same_bits(of_text, postgres, mimic_demo, tmp_path):
    tmp_path.chmod(0o755)
    kinds = {name: kind.replace("DOUBLE", "DOUBLE PRECISION") for name, kind in TABLE.columns.items()}
    file = unpack(mimic_demo, tmp_path / "unpacked", NAME)
    chosen = tmp_path / "chosen.csv"
    duckdb.sql(
        f"SELECT {', '.join(kinds)} FROM read_csv('{file}', all_varchar = true, header = true)"
    ).write_csv(str(chosen))
    postgres.run("CREATE DATABASE single")
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    postgres.run(
        f"CREATE TABLE {NAME} ({columns});\n\\copy {NAME} FROM '{chosen}' CSV HEADER NULL ''", "single"
    )
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(postgres.url("single")) as connection:
        source = postgresql.PostgreSQLTable(connection, "single", "public", NAME)
        assert fingerprint(source, tmp_path) == of_text
