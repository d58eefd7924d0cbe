"""Names of files are data: whatever they hold, that one file is read, or the command says why not."""

import stat

import duckdb
import pytest

from sepsis_cql.common.errors import SettingsError, TableError
from sepsis_cql.common.storage import new_directory, new_file
from sepsis_cql.replay.mimic.raw_files import parquet
from sepsis_cql.replay.mimic.tables import open_mimic
from sepsis_cql.tests.replay.made_up import MadeUpMimic, six_septic_patients, three_splits

NAMES = [
    "m?",
    "m*",
    "[m]x",
    "m[!x]",
    "**",
    "with space",
    "quote'quote",
    'double"quote',
    "semi; DROP TABLE patients; --",
    "new\nline",
    "tab\t",
    "{a,b}",
    "stay_id=5",
    "%s %d",
    "$HOME",
    "[bold]red[bold]",
    "-rf",
    "ünï-日本",
    "x" * 255,
    "é" * 127,
    "back\\slash",
    ".hidden",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_the_engine_reads_the_file_of_exactly_that_name(tmp_path, name):
    connection = duckdb.connect()
    for folder, number in (("mx", 1), ("my", 2), (name, 3)):
        (tmp_path / folder).mkdir()
        connection.execute(f"COPY (SELECT {number} AS stay_id) TO '{tmp_path}/t' (FORMAT parquet)")
        (tmp_path / "t").rename(tmp_path / folder / "t.parquet")
    read = connection.execute(f"FROM {parquet(connection, tmp_path / name / 't.parquet')}").fetchall()
    assert read == [(3,)]


@pytest.mark.parametrize("name", ["back\\slash?", "a\\[b]"])
def test_a_name_that_the_engine_would_take_for_another_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "t.parquet").write_bytes(b"")
    with pytest.raises(TableError, match="cannot open a path of this name"):
        parquet(duckdb.connect(), tmp_path / name / "t.parquet")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_directory_of_any_name_appears_whole(tmp_path, name):
    for _ in range(2):
        with new_directory(tmp_path / name, "build", force=True) as directory:
            with new_file(directory / name) as file:
                file.write_text("whole")
            assert [path.name for path in directory.iterdir()] == [name]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_mimic_with_a_glob_character_reads_that_directory_only(command, tmp_path):
    patients = three_splits()
    for folder, shift in (("mx", 0), ("m?", 1)):
        mimic = MadeUpMimic()
        for subject_id in patients[: len(patients) - shift]:
            mimic.septic_stay(subject_id)
        mimic.write(tmp_path / folder)
    with open_mimic(tmp_path / "m?") as tables:
        assert tables.row_counts["patients"] == len(patients) - 1
        found = tables.connection.execute("SELECT count(*) FROM patients").fetchall()
    assert found == [(len(patients) - 1,)]


def test_the_files_of_the_engine_are_private_and_gone_at_the_end(mimic_root, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    with open_mimic(mimic_root, scratch_parent=place):
        modes = {stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*") if path.is_file()}
        (scratch,) = place.iterdir()
        assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert modes == {0o600}
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("name", ["back\\slash", "ques?tion"])
def test_a_place_where_the_engine_cannot_keep_its_files_is_refused(mimic_root, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(SettingsError, match="Choose another place for --out or --cache"):
        open_mimic(mimic_root, cache=tmp_path / name)


@pytest.mark.parametrize("name", ["x" * 256, "a/" + "y" * 300, "é" * 128])
def test_a_name_that_is_too_long_is_refused_in_one_sentence(command, inputs, tmp_path, name):
    for stage in ("import-checkpoint", "train", "export"):
        code, printed = command(stage, *inputs[stage][0], "--out", tmp_path / name)
        assert code == 2 and "File name too long" in printed and "shorter name" in printed


@pytest.fixture
def mimic_root(tmp_path):
    return six_septic_patients().write(tmp_path / "root")
