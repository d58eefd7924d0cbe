"""MIMIC-IV wherever it is kept: equal rows give equal fingerprints and equal replays."""

import io
import random
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from sepsis_cql.commands import app as cli
from sepsis_cql.common.errors import TableError
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.mimic.concepts import create_concepts
from sepsis_cql.replay.mimic.sources.registry import find_kind, name_place
from sepsis_cql.replay.mimic.tables import open_mimic
from sepsis_cql.replay.rows.splits import SPLITS

from ..made_up import HEART_RATE, MadeUpMimic, build_settings, three_splits
from . import places

SECRET = "s3cret-w0rd"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six septic patients whose numbers and texts are not round and not plain."""
    made_up, rng = MadeUpMimic(), random.Random(5)
    for subject_id in three_splits():
        stay_id = made_up.septic_stay(subject_id)
        for hour in range(12):
            made_up.chart(stay_id, 223761, 97 + rng.random(), hour, valueuom="°F")
            made_up.output(stay_id, 226559, rng.random() * 90, hour)
        made_up.chart(stay_id, HEART_RATE, 91.3, 2.5, value='said "91,3"', valueuom="")
        made_up.chart(stay_id, HEART_RATE, 92.1, 2.5, value="")
        made_up.diagnose(stay_id, *(("I50", 10) if subject_id % 2 else ("0700", 9)), service="CSURG")
    return made_up.write(tmp_path_factory.mktemp("rows") / "mimic")


@pytest.fixture(scope="module")
def database(root, tmp_path_factory):
    """The same rows in a DuckDB file, in another order; tests only read it."""
    return places.duckdb_file(root, tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="module")
def replay(root, tmp_path_factory):
    """The replay of the folder."""
    out = tmp_path_factory.mktemp("folder") / "replay"
    build_replay(root, out, build_settings())
    return out


@pytest.fixture(scope="module")
def fingerprint(root):
    with open_mimic(root) as mimic:
        return mimic.fingerprint


@pytest.fixture(scope="module")
def postgres_url(postgres, root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("postgres")
    folder.chmod(0o755)
    postgres.run("CREATE DATABASE mimic")
    postgres.run(places.postgres_script(root, folder), "mimic")
    return postgres.url("mimic", SECRET)


def assert_equal_replays(one, other):
    for name in (
        *(f"{split}.parquet" for split in SPLITS),
        "stays.parquet",
        "provenance.json",
        "statistics.json",
    ):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("place", [places.nested_upper_case, places.parquet_shards, places.duckdb_file])
def test_equal_rows_have_one_fingerprint_wherever_they_are_kept(root, fingerprint, tmp_path, place):
    location = place(root, tmp_path)
    with open_mimic(location, cache=tmp_path / "cache") as mimic:
        assert mimic.fingerprint == fingerprint
        counts = mimic.row_counts
    with open_mimic(root) as mimic:
        assert mimic.row_counts == counts
    with open_mimic(location, cache=tmp_path / "cache") as again:  # out of the cache
        assert (again.fingerprint, again.row_counts) == (fingerprint, counts)


def test_another_value_is_another_fingerprint(root, fingerprint, tmp_path):
    location = places.nested_upper_case(root, tmp_path)
    file = location / "mimiciv/3.1/ICU/OUTPUTEVENTS.csv"
    header, first, *rest = file.read_text().splitlines(keepends=True)
    file.write_text(header + first + first + "".join(rest[1:]))  # as many rows, one in place of another
    with open_mimic(location) as mimic:
        assert mimic.fingerprint != fingerprint


def test_a_database_with_rows_in_another_order_gives_the_same_replay(database, replay, tmp_path):
    build_replay(database, tmp_path / "replay", build_settings())
    assert_equal_replays(replay, tmp_path / "replay")


def run_cli(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["sepsis-cql", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_postgresql_gives_the_same_replay_and_its_password_stays_unsaid(
    postgres_url, replay, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "replay"
    assert run_cli(monkeypatch, "build", "--mimic", postgres_url, "--out", out) == 0
    assert_equal_replays(replay, out)
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert SECRET.encode() not in written and b"127.0.0.1" not in written
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err


def test_concepts_of_every_place_agree(postgres_url, database, tmp_path, monkeypatch):
    reference = tmp_path / "concepts"
    assert run_cli(monkeypatch, "concepts", "--mimic", postgres_url, "--out", reference) == 0
    assert run_cli(monkeypatch, "agree", "--mimic", database, "--reference", reference) == 0


def severity_of(location):
    with open_mimic(location, concepts=["charlson"]) as mimic:
        create_concepts(mimic.connection, mimic.concepts)
        return mimic.connection.execute("FROM charlson ORDER BY hadm_id").fetchall()


def test_diagnoses_are_read_from_events_and_servers_where_a_concept_asks(root, bigquery, tmp_path):
    found = severity_of(root)
    assert {row[-1] for row in found} == {1, 2}  # a heart failure in every second patient, and 59 years
    assert severity_of(places.meds_extract(root, tmp_path / "meds")) == found
    assert severity_of(f"{BIGQUERY}?most_gib=99") == found


def without(root, name, folder):
    """A copy of the tables that lacks one."""
    shutil.copytree(root, folder)
    (folder / f"hosp/{name}.csv.gz").unlink()
    return folder


@pytest.mark.parametrize("place", [places.duckdb_file, places.meds_extract, lambda root, _: root])
def test_a_concept_whose_table_is_not_there_is_refused_by_name(root, place, tmp_path):
    (tmp_path / "place").mkdir()
    assert_severity_refused(place(without(root, "services", tmp_path / "poorer"), tmp_path / "place"))


def test_servers_refuse_a_concept_whose_table_is_not_there(root, postgres, tmp_path, monkeypatch):
    poorer = without(root, "services", tmp_path / "poorer")
    serve_bigquery(places.duckdb_file(poorer, tmp_path), monkeypatch)
    assert_severity_refused(f"{BIGQUERY}?most_gib=99")
    tmp_path.chmod(0o755)
    postgres.run("CREATE DATABASE poorer")
    postgres.run(places.postgres_script(poorer, tmp_path), "poorer")
    assert_severity_refused(postgres.url("poorer"))


def test_bigquery_without_a_table_that_all_need_names_it(root, tmp_path, monkeypatch):
    poorer = without(root, "admissions", tmp_path / "poorer")
    serve_bigquery(places.duckdb_file(poorer, tmp_path), monkeypatch)
    with pytest.raises(TableError, match=r"mimiciv_2_2_hosp\.admissions: BigQuery refused \(NotFound\)"):
        open_mimic(f"{BIGQUERY}?most_gib=99")


def assert_severity_refused(location):
    with pytest.raises(TableError, match="concept oasis needs the table services"):
        open_mimic(location, concepts=["charlson", "oasis"])
    with open_mimic(location, concepts=None) as mimic:
        assert {"charlson", "kdigo_stages"} <= set(mimic.concepts)
        assert not {"oasis", "sapsii"} & set(mimic.concepts)


def test_postgresql_without_a_table_names_it(postgres, tmp_path):
    postgres.run("CREATE DATABASE nothing")
    with pytest.raises(TableError, match=r"/nothing: found the table patients in no schema.*mimiciv_hosp"):
        open_mimic(postgres.url("nothing"))


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://bob:{SECRET}@127.0.0.1:1/mimic",
        f"postgresql://127.0.0.1:1/mimic?user=bob&password={SECRET}",
        f"postgresql://bob:{SECRET}%zz@127.0.0.1:1/mimic",
        f"postgresql://bob@127.0.0.1:{SECRET}/mimic",
        f"postgresql://bob:1/{SECRET}@127.0.0.1/mimic",
        f"postgresql://127.0.0.1/mimic?password=x@{SECRET}",
        f"postgresql:/bob:{SECRET}@127.0.0.1/mimic",
        f"mysql://bob:{SECRET}@127.0.0.1/mimic",
    ],
    ids=[
        "no server",
        "password as option",
        "not well formed",
        "password as port",
        "slash in the password",
        "at in the password",
        "one slash",
        "another database",
    ],
)
def test_an_address_that_does_not_work_is_refused_without_its_password(
    address, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("adbc_driver_postgresql")
    assert run_cli(monkeypatch, "build", "--mimic", address, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "error:" in error and SECRET not in error
    assert not list(tmp_path.iterdir())


def test_a_record_names_a_database_without_who_logs_in():
    assert (
        name_place(f"postgresql://bob:{SECRET}@db.host:5433/mimic?sslmode=require")
        == "postgresql://db.host:5433/mimic"
    )
    assert name_place(f"postgresql://bob:x/{SECRET}@db.host/mimic") == "postgresql://"


def test_a_driver_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    with pytest.raises(TableError, match=r"needs the driver.*sepsis-cql\[postgresql\]"):
        open_mimic("postgresql://127.0.0.1/mimic")


@pytest.fixture
def bigquery(database, monkeypatch):
    """BigQuery's client, answered from a DuckDB file whose rows are in another order."""
    return serve_bigquery(database, monkeypatch)


def serve_bigquery(database, monkeypatch):
    fake = places.BigQuery(database)
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.cloud", SimpleNamespace(bigquery=fake))
    return fake


BIGQUERY = "bigquery://payer/physionet-data/mimiciv_2_2"


def test_bigquery_gives_the_same_rows_and_bills_no_more_than_agreed(bigquery, fingerprint, root, capsys):
    with open_mimic(f"{BIGQUERY}?most_gib=36") as mimic:
        assert mimic.fingerprint == fingerprint
    assert "36.0 GiB, which Google bills to the project payer" in capsys.readouterr().err
    trials = [job for job in bigquery.asked if getattr(job, "dry_run", False)]
    assert len(trials) == 12
    assert all(job.maximum_bytes_billed == 3 * 2**30 for job in bigquery.asked if job not in trials)


@pytest.mark.parametrize("location", [BIGQUERY, f"{BIGQUERY}?most_gib=35"], ids=["no terminal", "too little"])
def test_bigquery_reads_nothing_that_nobody_agreed_to_pay(bigquery, location, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run_cli(monkeypatch, "build", "--mimic", location, "--out", tmp_path / "out") == 2
    assert "most_gib=36" in capsys.readouterr().err
    assert all(job.dry_run for job in bigquery.asked)


@pytest.mark.parametrize(("answer", "is_read"), [("y", True), ("n", False)])
def test_bigquery_asks_on_a_terminal(bigquery, answer, is_read, monkeypatch):
    terminal = io.StringIO(f"{answer}\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    if is_read:
        open_mimic(BIGQUERY).close()
        return
    with pytest.raises(TableError, match="nothing was read"):
        open_mimic(BIGQUERY)


def test_bigquery_without_its_client_or_spelled_otherwise_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    with pytest.raises(TableError, match=r"needs the client.*sepsis-cql\[bigquery\]"):
        open_mimic(BIGQUERY)
    with pytest.raises(TableError, match="not an address on BigQuery"):
        open_mimic("bigquery://payer/mimiciv_2_2")


def test_a_meds_extract_gives_the_states_of_values_known_when_charted(root, tmp_path):
    build_replay(root, tmp_path / "folder", build_settings(availability="charttime"))
    location = places.meds_extract(root, tmp_path)
    report = build_replay(location, tmp_path / "replay", build_settings(availability="charttime"))
    for split in SPLITS:
        name = f"{split}.parquet"
        assert (tmp_path / "folder" / name).read_bytes() == (tmp_path / "replay" / name).read_bytes()
    assert (report.source.name, report.source.version) == ("mimic-iv", "2.2")
    assert any("no times of filing" in warning for warning in report.warnings)


def test_a_meds_extract_without_cultures_is_refused_as_lacking_sepsis3(root, tmp_path, monkeypatch, capsys):
    location = places.meds_extract(root, tmp_path / "meds")
    (location / "hosp/microbiologyevents.csv.gz").unlink()
    assert run_cli(monkeypatch, "build", "--mimic", location, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "holds no microbiologyevents, without which there is no Sepsis-3" in error
    assert "hosp/microbiologyevents.csv.gz" in error and "prescriptions" not in error


def test_a_meds_extract_of_another_database_is_refused(tmp_path):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/dataset.json").write_text('{"dataset_name": "eICU", "dataset_version": "2.0"}')
    with pytest.raises(TableError, match=r"found eICU 2\.0, expected an extract of MIMIC-IV 2\.2 or 3\.1"):
        open_mimic(tmp_path)


def test_two_releases_below_a_folder_are_named(root, tmp_path):
    with pytest.raises(TableError, match=r"found 2\.2, 3\.1, expected one release"):
        open_mimic(places.folder_twice(root, tmp_path))


def test_a_table_once_as_file_and_once_in_shards_is_refused(root, tmp_path):
    location = places.parquet_shards(root, tmp_path)
    places.unpack(root, location / "icu", "icustays")
    with pytest.raises(TableError, match=r"found icustays\.csv, icustays-00000-of-00003\.parquet"):
        open_mimic(location)


def test_a_file_that_only_ends_like_a_database_is_refused(tmp_path):
    (tmp_path / "mimic.db").write_text("nothing")
    with pytest.raises(TableError, match="cannot be opened as a DuckDB file"):
        open_mimic(tmp_path / "mimic.db")


@pytest.mark.parametrize("location", ["nowhere", "no/where.db", "s3://bucket/mimic"])
def test_a_place_that_is_not_there_is_told_before_anything_is_read(location):
    with pytest.raises(TableError, match=r"Expected the MIMIC-IV root.*postgresql"):
        find_kind(Path(location) if location == "nowhere" else location)
