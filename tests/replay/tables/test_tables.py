import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from sepsis_cql.common.errors import SettingsError, TableError
from sepsis_cql.common.ownership import scratch_directory
from sepsis_cql.common.storage import sha256_file
from sepsis_cql.replay.mimic import reading
from sepsis_cql.replay.mimic.sources import folder
from sepsis_cql.replay.mimic.tables import open_mimic

from ..made_up import SIMULATION


def test_the_demo_is_recognized_and_counted(mimic_demo, table_settings):
    with open_mimic(mimic_demo) as mimic:
        assert (mimic.source, mimic.version, mimic.synthetic) == ("mimic-iv-demo", "2.2", None)
        assert mimic.row_counts == {name: table.rows["demo"] for name, table in table_settings.tables.items()}
        items = mimic.connection.execute("SELECT DISTINCT itemid FROM chartevents").fetchall()
    assert {item for (item,) in items} <= set(table_settings.tables["chartevents"].itemids)


def test_values_keep_their_type(small_root):
    with open_mimic(small_root) as mimic:
        row = mimic.connection.execute(
            "SELECT typeof(charttime), typeof(itemid), typeof(valuenum), valuenum, value FROM chartevents"
        ).fetchall()
    assert row == [("TIMESTAMP", "INTEGER", "FLOAT", 1.5, "text")]


def test_header_case_column_order_and_further_columns_do_not_matter(small_root, rewrite):
    with open_mimic(small_root) as mimic:
        expected = mimic.connection.execute("FROM inputevents").fetchall()
    rewrite(
        small_root / "icu/inputevents.csv.gz",
        lambda rows: [{"NEWCOLUMN": "x", **{k.upper(): v for k, v in reversed(row.items())}} for row in rows],
    )
    with open_mimic(small_root) as mimic:
        assert mimic.connection.execute("FROM inputevents").fetchall() == expected


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_plain_csv_and_parquet_read_the_same(small_root, suffix):
    raw = small_root / "hosp/labevents.csv.gz"
    with open_mimic(small_root) as mimic:
        expected = mimic.connection.execute("FROM labevents").fetchall()
        if suffix == ".parquet":
            mimic.connection.execute(f"COPY (FROM labevents) TO '{small_root}/hosp/labevents.parquet'")
        else:
            (small_root / "hosp/labevents.csv").write_bytes(gzip.decompress(raw.read_bytes()))
    raw.unlink()
    with open_mimic(small_root) as mimic:
        assert mimic.connection.execute("FROM labevents").fetchall() == expected
        assert mimic.row_counts["labevents"] == 1


def test_rows_are_counted_before_items_are_selected(small_root, rewrite):
    rewrite(small_root / "icu/chartevents.csv.gz", lambda rows: rows + 4 * [rows[0] | {"itemid": "1"}])
    with open_mimic(small_root) as mimic:
        assert mimic.row_counts["chartevents"] == 5
        assert mimic.connection.execute("SELECT count(*) FROM chartevents").fetchall() == [(1,)]


@pytest.mark.parametrize(("group", "version"), [("2017 - 2019", "2.2"), ("2020 - 2022", "3.1")])
def test_an_extract_is_credentialed_data_of_the_release_with_its_latest_years(
    small_root, rewrite, group, version
):
    rewrite(small_root / "hosp/patients.csv.gz", lambda rows: [rows[0] | {"anchor_year_group": group}])
    with open_mimic(small_root) as mimic:
        assert (mimic.source, mimic.version) == ("mimic-iv", version)


def test_a_hundred_other_patients_are_not_the_demo(small_root, rewrite):
    rewrite(
        small_root / "hosp/patients.csv.gz",
        lambda rows: [rows[0] | {"subject_id": str(i)} for i in range(100)],
    )
    with open_mimic(small_root) as mimic:
        assert mimic.source == "mimic-iv"


def test_a_synthetic_root_says_so_and_needs_no_laboratory_dictionary(small_root, rewrite):
    (small_root / "SYNTHETIC.json").write_text(json.dumps(SIMULATION))
    rewrite(small_root / "hosp/d_labitems.csv.gz", lambda rows: rows[:1])
    with open_mimic(small_root) as mimic:
        assert (mimic.source, mimic.version, mimic.synthetic.seed) == ("synthetic", "1", 3)


def _first(**changes):
    return lambda rows: [rows[0] | changes, *rows[1:]]


CHANGED_ROWS = {
    "unparsable time": ("icu/chartevents", _first(charttime="noon"), ["line 2", "charttime", "TIMESTAMP"]),
    "unparsable number": ("hosp/labevents", _first(valuenum="high"), ["line 2", "valuenum", "DOUBLE"]),
    "missing column": (
        "icu/outputevents",
        lambda rows: [{k: v for k, v in row.items() if k != "value"} for row in rows],
        ["column value not found", "charttime"],
    ),
    "duplicate stay": (
        "icu/icustays",
        lambda rows: 2 * rows,
        ["1 rows in which stay_id repeats or is missing"],
    ),
    "release 3.0": (
        "hosp/d_labitems",
        _first(label="Bleeding Time"),
        ["'Bleeding Time'", "Base Excess", "3.0", "3.1"],
    ),
}


@pytest.mark.parametrize("case", CHANGED_ROWS)
def test_bad_rows_are_named_by_file_and_column(small_root, rewrite, case):
    table, change, expected = CHANGED_ROWS[case]
    file = small_root / f"{table}.csv.gz"
    rewrite(file, change)
    _assert_refused(small_root, [str(file), *expected])


def test_the_message_does_not_show_the_row(small_root, rewrite):
    rewrite(small_root / "icu/chartevents.csv.gz", _first(charttime="noon", value="a secret"))
    with pytest.raises(TableError) as caught:
        open_mimic(small_root)
    assert "noon" not in str(caught.value)
    assert "secret" not in str(caught.value)


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-30])


def _corrupt_checksum(file):
    damaged = bytearray(file.read_bytes())
    damaged[-6] ^= 0xFF
    file.write_bytes(bytes(damaged))


def _short_row(file):
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + b"1,2\n"))


def _header_only(file):
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).splitlines(keepends=True)[0]))


DAMAGED_FILES = {
    "missing": (lambda file: file.unlink(), ["found none", "icustays.parquet"]),
    "twice": (
        lambda file: file.with_name("icustays.csv").write_text("x\n"),
        ["icustays.csv.gz, icustays.csv", "exactly one"],
    ),
    "truncated": (_truncate, ["truncated"]),
    "silently corrupt": (_corrupt_checksum, ["corrupt", "incorrect data check"]),
    "not gzip": (lambda file: file.write_text("subject_id\n1\n"), ["corrupt"]),
    "short row": (_short_row, ["line 3", "found 2 columns, expected 8"]),
    "empty": (lambda file: file.write_bytes(gzip.compress(b"")), ["not found"]),
    "header only": (_header_only, ["no row"]),
}


@pytest.mark.parametrize("case", DAMAGED_FILES)
def test_damaged_files_are_refused(small_root, case):
    damage, expected = DAMAGED_FILES[case]
    damage(small_root / "icu/icustays.csv.gz")
    _assert_refused(small_root, ["icu", *expected])


def test_a_file_as_released_is_not_checked_twice(small_root, monkeypatch):
    files = sorted(small_root.rglob("*.gz"))
    lines = [f"{sha256_file(file)}  {file.relative_to(small_root)}" for file in files[1:]]
    (small_root / "SHA256SUMS.txt").write_text("\n".join(lines) + "\n")
    checked = []
    monkeypatch.setattr(folder, "_check_gzip", checked.append)
    open_mimic(small_root).close()
    assert checked == files[:1]


@pytest.mark.parametrize(
    ("file", "database"),
    [
        ("INPUTEVENTS_MV.csv.gz", "MIMIC-III"),
        ("vitalPeriodic.csv.gz", "eICU"),
        ("core/patients.csv.gz", "MIMIC-IV before 2.0"),
    ],
)
def test_another_database_is_called_by_its_name(tmp_path, file, database):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    _assert_refused(tmp_path, [str(tmp_path), database, "hosp"])


def test_a_root_that_does_not_exist_is_refused(tmp_path):
    _assert_refused(tmp_path / "nowhere", ["nowhere", "not a directory"])


def _assert_refused(root, expected):
    cache = root.parent / "cache"
    with pytest.raises(TableError) as caught:
        open_mimic(root, cache=cache)
    for text in expected:
        assert text in str(caught.value)
    leftovers = [path.name for path in cache.rglob("*") if path.name.startswith((".", "scratch"))]
    assert leftovers == []


def test_the_cache_is_private_and_saves_every_second_read(small_root, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    with open_mimic(small_root, cache=cache) as mimic:
        first = mimic.connection.execute("FROM chartevents").fetchall()
    assert (cache / "mimic-tables").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(reading, "convert", lambda *_, **__: pytest.fail("a cached table was read again"))
    with open_mimic(small_root, cache=cache) as mimic:
        assert mimic.connection.execute("FROM chartevents").fetchall() == first
        assert mimic.row_counts["chartevents"] == 1


def test_an_interrupted_read_goes_on_where_it_stopped(small_root, tmp_path, monkeypatch, table_settings):
    read = []

    def convert_until_outputevents(connection, source, *arguments):
        name = Path(source.where).name.split(".")[0]
        read.append(name)
        if name == "outputevents" and read.count(name) == 1:
            raise KeyboardInterrupt
        return convert(connection, source, *arguments)

    convert = reading.convert
    monkeypatch.setattr(reading, "convert", convert_until_outputevents)
    with pytest.raises(KeyboardInterrupt):
        open_mimic(small_root, cache=tmp_path / "cache")
    open_mimic(small_root, cache=tmp_path / "cache").close()
    assert Counter(read) == {**dict.fromkeys(table_settings.tables, 1), "outputevents": 2}


def test_changed_bytes_are_read_again_and_change_the_fingerprint(small_root, rewrite, tmp_path):
    with open_mimic(small_root, cache=tmp_path / "cache") as mimic:
        before = mimic.fingerprint
    rewrite(small_root / "icu/chartevents.csv.gz", _first(valuenum="2.5"))
    with open_mimic(small_root, cache=tmp_path / "cache") as mimic:
        assert mimic.fingerprint != before
        assert mimic.connection.execute("SELECT valuenum FROM chartevents").fetchall() == [(2.5,)]


def test_a_wrong_root_fails_before_a_large_table_is_read(small_root, rewrite, monkeypatch):
    rewrite(small_root / "hosp/d_labitems.csv.gz", _first(label="Bleeding Time"))
    read = []
    convert = reading.convert
    monkeypatch.setattr(
        reading,
        "convert",
        lambda _, source, *rest: read.append(Path(source.where).name) or convert(_, source, *rest),
    )
    with pytest.raises(TableError):
        open_mimic(small_root)
    assert not {"chartevents.csv.gz", "labevents.csv.gz"} & set(read)


@pytest.mark.parametrize("limits", [{"memory_limit": "lots"}, {"disk_limit": "lots"}, {"threads": 0}])
def test_a_limit_the_engine_does_not_understand_is_refused(small_root, limits):
    with pytest.raises(SettingsError, match="8GB"):
        open_mimic(small_root, **limits)


def test_scratch_files_lie_where_asked_and_closing_removes_them(small_root, tmp_path):
    mimic = open_mimic(small_root, scratch_parent=tmp_path)
    (scratch,) = tmp_path.glob(".sepsis-cql-tmp-scratch-*")
    mimic.close()
    assert not scratch.exists()


def test_scratch_of_a_living_run_with_another_home_is_left_alone(tmp_path, monkeypatch):
    with scratch_directory(tmp_path) as living:
        monkeypatch.setenv("SEPSIS_CQL_HOME", str(tmp_path / "another"))
        with scratch_directory(tmp_path):
            assert living.is_dir()
    (tmp_path / ".sepsis-cql-tmp-scratch-dead").mkdir()
    with scratch_directory(tmp_path) as alone:
        assert list(tmp_path.glob(".sepsis-cql-tmp-scratch-*")) == [alone]
