"""Wrong columns of a replay and wrong cells of a table: each is refused, and no cell is shown."""

import gzip
import json
import os
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from sepsis_cql.common.errors import ReplayError
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.interop.exports import write_original
from sepsis_cql.replay.mimic.checks import check_rows
from sepsis_cql.replay.mimic.raw_files import parquet
from sepsis_cql.replay.mimic.reading import check_columns, open_table
from sepsis_cql.replay.mimic.sources.folder import FileTable
from sepsis_cql.replay.mimic.tables import DISK_LIMIT, _connect
from sepsis_cql.replay.regular_files import check_cache
from sepsis_cql.tests.replay.made_up import TABLES
from sepsis_cql.tests.training.made_up import make_transitions

from .mutations import DAMAGED_BYTES, damage_columns
from .refusals import TRIED, assert_large, documents_of, wrongly_taken


def test_wrong_columns_of_a_replay_file_are_refused(tmp_path):
    file = tmp_path / "replay.parquet"
    write_original(make_transitions(n_states=2), file)
    table, data = pq.read_table(file), file.read_bytes()
    mutants = {name: damage(data) for name, damage in DAMAGED_BYTES.items()}
    for name, wrong in damage_columns(table).items():
        pq.write_table(wrong, file)
        mutants[name] = file.read_bytes()
    door = lambda: open_replay(file).transitions()  # noqa: E731
    assert wrongly_taken("replays", door, file, mutants) == []


def test_wrong_columns_of_a_replay_directory_are_refused(copy):
    file = copy / "replay" / "train.parquet"
    table, data = pq.read_table(file), file.read_bytes()
    used = {
        "subject_id",
        "stay_id",
        "step_index",
        "state",
        "action",
        "reward_sparse",
        "terminal",
        "next_state",
    }
    mutants = {name: damage(data) for name, damage in DAMAGED_BYTES.items()}
    mutated = damage_columns(table)
    mutated["no names of states"] = table.replace_schema_metadata({})
    mutated["names of fewer states"] = table.replace_schema_metadata({b"state_names": b"one,two"})
    mutated["steps of a stay exchanged"] = _exchange(table, "state")
    mutated["following states exchanged"] = _exchange(table, "next_state")
    for name, wrong in mutated.items():
        if (
            any(name.startswith((f"without {column}", column)) for column in used)
            or " of " in name
            or "exchanged" in name
        ):
            pq.write_table(wrong, file)
            mutants[name] = file.read_bytes()
    door = lambda: open_replay(copy / "replay").transitions("train")  # noqa: E731
    assert wrongly_taken("replays", door, file, mutants) == []


@pytest.mark.parametrize(("size", "is_refused"), [(1e38, True), (-2e12, True), (1e11, False)])
def test_states_too_large_for_any_equation_are_refused(tmp_path, size, is_refused):
    data, file = make_transitions(n_states=2), tmp_path / "replay.parquet"
    write_original(replace(data, states=data.states * 0 + size, next_states=data.states * 0 + size), file)
    if is_refused:
        with pytest.raises(ReplayError, match=r"replay\.parquet: found states beyond 1e\+12"):
            open_replay(file).transitions()
    else:
        assert len(open_replay(file).transitions()) == len(data)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_rows_is_refused(copy, split):
    file = copy / "replay" / f"{split}.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    with pytest.raises(ReplayError, match=f"{split}.parquet: holds no transition"):
        open_replay(copy / "replay").transitions(split)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("hosp/patients.csv", None),
        ("icu/chartevents_1.parquet", None),
        ("icu/chartevents/part.parquet", None),
        ("SHA256SUMS.txt", None),
        ("SHA256SUMS.txt", b"\xff\xfe\0"),
        ("SHA256SUMS.txt", b"a" * (2**24 + 1)),
        ("hosp/patients.csv", b"a" * 200_000 + b"\n1\n"),
        ("hosp/patients.csv", b'"' + b"a,\n" * 70_000),
        ("hosp/patients.csv.gz", gzip.compress(b'subject_id,"gender\n1\n')),
    ],
)
def test_what_is_no_file_of_tables_is_refused_and_not_waited_for(command, tmp_path, name, content):
    TRIED["tables"] += 1
    file = tmp_path / "m" / name
    file.parent.mkdir(parents=True)
    os.mkfifo(file) if content is None else file.write_bytes(content)
    code, printed = command("build", "--mimic", tmp_path / "m", "--out", tmp_path / "out")
    assert code == 2 and str(file) in printed.replace("\n", "") and "xpected" in printed + "Expected"
    assert len(printed) < 600 and not (tmp_path / "out").exists()


def test_damaged_records_of_a_cache_are_refused(tmp_path):
    file = tmp_path / "mimic-tables" / "patients-0123456789abcdef.json"
    file.parent.mkdir()
    mutants = documents_of(json.dumps({"rows": 100, "fingerprint": "a" * 64}))
    assert (
        wrongly_taken("tables", lambda: check_cache(tmp_path), file, mutants, may_be_right=("unknown",)) == []
    )


def _exchange(table, name):
    """The first two rows of a column in each other's place."""
    order = [1, 0, *range(2, table.num_rows)]
    return table.set_column(table.column_names.index(name), name, table[name].take(order))


WRONG_CELLS = {
    "INTEGER": ("1.5", "99999999999", "one"),
    "SMALLINT": ("2100.5", "70000"),
    "FLOAT": ("inf", "nan"),
    "DOUBLE": ("-inf", "one"),
    "DATE": ("0001-01-01", "2301-01-01", "noon"),
    "TIMESTAMP": ("290000-01-01 00:00:00", "2100-01-01 08:00:00+05:00", "-infinity"),
}
RIGHT_CELLS = {"DATE": "2150-01-02", "TIMESTAMP": "2150-01-01 08:00:00", "VARCHAR": "text"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    connection = _connect(tmp_path_factory.mktemp("engine"), None, DISK_LIMIT, None)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", TABLES.tables)
def test_wrong_cells_of_a_table_are_refused_without_the_cell(engine, tmp_path, name):
    table, file = TABLES.tables[name], tmp_path / f"{name}.csv"
    right = {column: RIGHT_CELLS.get(kind, "7") for column, kind in table.columns.items()}
    right |= {"itemid": str(table.itemids[0])} if table.items else {}
    typed = {
        key: kind for key, kind in table.columns.items() if not (table.items and key == "itemid")
    }  # others go
    cases = [(column, cell) for column, kind in typed.items() for cell in WRONG_CELLS.get(kind, ())]
    texts = {f"{column}: {cell}": table_of(right | {column: cell}) for column, cell in cases}
    texts |= {
        f"without {name}": table_of({key: right[key] for key in right if key != name}) for name in right
    }
    texts |= {"no row": ",".join(right) + "\n", "empty": "", "a row too short": table_of(right) + "7\n"}
    if key := TABLES.keys.get(name):
        texts |= {"the same row twice": table_of(right) + table_of(right).split("\n")[1] + "\n"}
        texts |= {"no key": table_of(right | {key: ""})}

    def door():
        for made in tmp_path.glob("made*"):
            made.unlink()
        source = FileTable((file,))
        header = source.header(engine)
        check_columns(source, header, table)
        open_table(engine, source, header, table, tmp_path / "made", tmp_path / "made.parquet")
        made = parquet(engine, tmp_path / "made.parquet")
        engine.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {made}")
        check_rows(engine, name, source.where, TABLES)

    mutants = {key: text.encode() for key, text in texts.items()}
    assert wrongly_taken("tables", door, file, mutants) == []
    file.write_text(table_of(right))
    door()


def table_of(row):
    return f"{','.join(row)}\n{','.join(row.values())}\n"


def test_campaign_was_large():
    assert_large("replays tables", at_least=300)
