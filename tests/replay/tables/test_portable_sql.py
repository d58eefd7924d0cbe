"""The concept queries in other SQL dialects, and in a real PostgreSQL where one is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from sepsis_cql.replay.mimic.concepts import ORDER, SQL, read_query
from sepsis_cql.replay.report.agreement import compare_relations
from sepsis_cql.replay.report.official import load_official_concepts

DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "pg_ctl", "psql")


def translate(query: str, dialect: str) -> str:
    (translated,) = sqlglot.transpile(
        query, read="duckdb", write=dialect, unsupported_level=sqlglot.ErrorLevel.RAISE
    )
    return translated


def test_every_query_has_its_place_in_the_order():
    assert sorted(ORDER) == sorted(file.stem for file in SQL.rglob("*.sql"))


@pytest.mark.parametrize("dialect", ["bigquery", "postgres"])
@pytest.mark.parametrize("name", ORDER)
def test_every_query_translates(name, dialect):
    translated = translate(read_query(name), dialect)
    assert sqlglot.parse_one(translated, read=dialect).named_selects


@pytest.mark.parametrize("name", ORDER)
def test_differences_are_taken_of_dates_only(name):
    # dialects count hours and minutes between two times differently: full ones, begun ones or rounded
    for difference in sqlglot.parse_one(read_query(name), read="duckdb").find_all(exp.DateDiff):
        assert difference.unit.name.lower() == "day"
        assert {difference.this.to.this, difference.expression.to.this} == {exp.DataType.Type.DATE}


@dataclass(frozen=True)
class Postgres:
    binaries: Path
    port: int

    def run(self, script: str) -> None:
        command = [
            str(self.binaries / "psql"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-d",
        ]
        finished = subprocess.run(
            [*command, "postgres", "-q", "-v", "ON_ERROR_STOP=1"],
            input=script,
            text=True,
            capture_output=True,
        )
        assert finished.returncode == 0, finished.stderr[-2000:]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A throw-away server on loopback, with text sorted by bytes as DuckDB sorts it."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    folders += sorted(DEBIAN.glob("*/bin"), reverse=True)
    complete = [folder for folder in folders if all((folder / name).exists() for name in PROGRAMS)]
    if not complete:
        pytest.skip("no PostgreSQL server found: install Debian's `postgresql` to run the translated queries")
    binaries = complete[0]
    owner = (
        "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    )  # it refuses to run as root
    if owner not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root and there is no user `postgres`")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    shutil.chown(folder, owner)

    def server(*command: str) -> None:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, user=owner, cwd=folder, check=True, **silent)

    control = [str(binaries / "pg_ctl"), "-D", str(folder / "data")]
    try:
        initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust"]
        server(*initdb, "--encoding=UTF8", "--locale=C", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        server(*control, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield Postgres(binaries, port)
        server(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def test_postgres_computes_the_same_concepts(postgres, demo_connection, table_settings, tmp_path):
    kinds = {"FLOAT": "REAL", "DOUBLE": "DOUBLE PRECISION"}
    script = []
    for name, table in table_settings.tables.items():
        demo_connection.execute(f"COPY (FROM {name}) TO '{tmp_path}/{name}.csv' (HEADER)")
        columns = ", ".join(f"{column} {kinds.get(kind, kind)}" for column, kind in table.columns.items())
        script += [
            f"CREATE TABLE {name} ({columns});",
            f"\\copy {name} FROM '{tmp_path}/{name}.csv' CSV HEADER",
        ]
    script += [f"CREATE TABLE {name} AS {translate(read_query(name), 'postgres')};" for name in ORDER]
    for name, concept in load_official_concepts().items():
        rows = f"(SELECT {', '.join(concept.columns)} FROM {name})"
        script.append(f"\\copy {rows} TO '{tmp_path}/{name}.theirs.csv' CSV HEADER")
    postgres.run("\n".join(script))
    results = []
    for name, concept in load_official_concepts().items():
        columns = dict(
            demo_connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE {name})").fetchall()
        )
        casts = ", ".join(f"CAST({column} AS {columns[column]}) AS {column}" for column in concept.columns)
        file = f"'{tmp_path}/{name}.theirs.csv'"
        theirs = f"(SELECT {casts} FROM read_csv({file}, all_varchar = true, header = true, quote = '\"'))"
        results.append(compare_relations(demo_connection, name, concept, name, theirs))
    assert [result for result in results if not result.agrees] == []
    assert sum(result.equal for result in results) == 75_313
