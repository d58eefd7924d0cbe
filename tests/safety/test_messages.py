"""Messages never show a cell of a patients' table, whatever the database engine would say."""

import json

import duckdb
import pytest

from sepsis_cql.common import storage
from sepsis_cql.common.errors import SepsisCQLError, TableError
from sepsis_cql.common.strict import read_record
from sepsis_cql.replay.records import Simulation
from sepsis_cql.replay.report.agreement import compare_concepts
from sepsis_cql.replay.report.official import load_official_concepts

CELL = "Jane Doe 10000032"


@pytest.mark.parametrize("name", ["age", "icustay_times", "sofa", "vitalsign"])
def test_reference_tables_of_another_type_are_refused_without_a_cell(tmp_path, name):
    columns = load_official_concepts()[name].columns
    connection = duckdb.connect()
    connection.execute("CREATE TABLE icustays (subject_id INTEGER, stay_id INTEGER)")
    connection.execute(f"CREATE TABLE {name} ({', '.join(f'{column} DOUBLE' for column in columns)})")
    ids = ("subject_id", "hadm_id", "stay_id")
    cells = ", ".join(f"7 AS {column}" if column in ids else f"'{CELL}' AS {column}" for column in columns)
    connection.execute(f"COPY (SELECT {cells}) TO '{tmp_path / name}.parquet' (FORMAT parquet)")
    with pytest.raises(TableError, match="has another type than the official concept") as refused:
        compare_concepts(connection, tmp_path)
    assert str(tmp_path) in str(refused.value) and CELL not in str(refused.value)


def test_a_reference_that_is_no_parquet_file_is_refused_without_its_text(tmp_path):
    (tmp_path / "age.parquet").write_text(CELL)
    with pytest.raises(TableError, match=r"age\.parquet.*not a readable parquet file") as refused:
        compare_concepts(duckdb.connect(), tmp_path)
    assert CELL not in str(refused.value)


@pytest.mark.parametrize("planted", [CELL, [CELL], {CELL: 71}, 10000032])
@pytest.mark.parametrize("place", ["value", "field", "key"])
def test_a_record_that_holds_what_does_not_belong_there_is_refused_without_it(tmp_path, planted, place):
    stored = {"parameters": {}, "simulator": "1", "patients": 60, "seed": 7, "settings": {}}
    stored |= {"value": {"seed": [planted]}, "field": {"note": planted}, "key": {str(planted): 1}}[place]
    (tmp_path / "SYNTHETIC.json").write_text(json.dumps(stored))
    with pytest.raises(SepsisCQLError, match=r"SYNTHETIC\.json") as refused:
        read_record(Simulation, tmp_path / "SYNTHETIC.json", expected="a mark")
    assert not any(word in str(refused.value) for word in ("Jane", "10000032", "71"))


@pytest.mark.parametrize(
    "statement",
    [f"SELECT CAST('{CELL}' AS INTEGER)", f"SELECT CAST('{CELL}' AS TIMESTAMP)", f"SELECT error('{CELL}')"],
)
def test_an_error_of_the_engine_that_nobody_expected_is_a_sentence_without_a_cell(
    command, monkeypatch, statement
):
    monkeypatch.setattr("sepsis_cql.commands.app.app", lambda: duckdb.connect().execute(statement).fetchall())
    with pytest.raises(duckdb.Error, match="Jane Doe") as raised:
        duckdb.connect().execute(statement).fetchall()
    assert CELL not in storage.explain_failure(raised.value)
    code, printed = command("build")
    assert code == 2 and "engine refused" in printed and CELL not in printed


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;title\x07", "\u202egnp.exe", "\r\x9b31m", "x" * 1_000_000])
def test_a_message_holds_no_commands_for_the_terminal_and_has_a_length(command, monkeypatch, text):
    def fail():
        raise SepsisCQLError(f"file: found {text}\nin two lines")

    monkeypatch.setattr("sepsis_cql.commands.app.app", fail)
    code, printed = command("build")
    assert code == 2 and printed.startswith("error: file: found") and len(printed) < 5000
    assert printed.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_too_little_memory_is_a_sentence(error):
    assert "ran out of memory" in storage.explain_failure(error)
