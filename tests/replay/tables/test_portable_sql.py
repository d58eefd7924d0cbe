"""The concept queries in other SQL dialects, and in a real PostgreSQL where one is installed."""

import pytest
import sqlglot
from sqlglot import exp

from sepsis_cql.replay.mimic.concepts import FURTHER, ORDER, SQL, read_query
from sepsis_cql.replay.report.agreement import compare_relations
from sepsis_cql.replay.report.official import load_official_concepts

ALL = (*ORDER, *FURTHER)


def translate(query: str, dialect: str) -> str:
    (translated,) = sqlglot.transpile(
        query, read="duckdb", write=dialect, unsupported_level=sqlglot.ErrorLevel.RAISE
    )
    return translated


def test_every_query_has_its_place_in_the_order():
    assert sorted(ALL) == sorted(file.stem for file in SQL.rglob("*.sql"))


@pytest.mark.parametrize("dialect", ["bigquery", "postgres"])
@pytest.mark.parametrize("name", ALL)
def test_every_query_translates(name, dialect):
    translated = translate(read_query(name), dialect)
    assert sqlglot.parse_one(translated, read=dialect).named_selects


@pytest.mark.parametrize("name", ALL)
def test_differences_are_taken_of_dates_only(name):
    # dialects count hours and minutes between two times differently: full ones, begun ones or rounded
    for difference in sqlglot.parse_one(read_query(name), read="duckdb").find_all(exp.DateDiff):
        assert difference.unit.name.lower() == "day"
        assert {difference.this.to.this, difference.expression.to.this} == {exp.DataType.Type.DATE}


def test_postgres_computes_the_same_concepts(postgres, demo_connection, table_settings, tmp_path):
    kinds = {"FLOAT": "REAL", "DOUBLE": "DOUBLE PRECISION"}
    script = []
    for name, table in table_settings.with_concepts(FURTHER).tables.items():
        demo_connection.execute(f"COPY (FROM {name}) TO '{tmp_path}/{name}.csv' (HEADER)")
        columns = ", ".join(f"{column} {kinds.get(kind, kind)}" for column, kind in table.columns.items())
        script += [
            f"CREATE TABLE {name} ({columns});",
            f"\\copy {name} FROM '{tmp_path}/{name}.csv' CSV HEADER",
        ]
    script += [f"CREATE TABLE {name} AS {translate(read_query(name), 'postgres')};" for name in ALL]
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
    assert sum(result.equal for result in results) == 93_151
