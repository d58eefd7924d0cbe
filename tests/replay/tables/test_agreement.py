import json
import shutil

import duckdb
import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import TableError
from sepsis_cql.replay.report.agreement import compare_concepts, compare_relations
from sepsis_cql.replay.report.official import OfficialConcept, load_official_concepts, write_concepts

from ..made_up import six_septic_patients

CONCEPT = OfficialConcept(key=["id"], columns=["id", "moment", "value", "name"])
OURS = [(1, "2150-01-01 00:00:00", 0.5, "a"), (2, "2150-01-02 00:00:00", None, "b")]


def values(rows):
    cells = ", ".join(
        f"({a}, TIMESTAMP '{b}', {'NULL' if c is None else c}, {'NULL' if d is None else repr(d)})"
        for a, b, c, d in rows
    )
    table = f"(VALUES {cells}) AS made(id, moment, value, name)"
    return f"(SELECT id, moment, CAST(value AS DOUBLE) AS value, name FROM {table})"


def compare(ours, theirs):
    return compare_relations(duckdb.connect(), "made up", CONCEPT, values(ours), theirs)


@pytest.mark.parametrize(
    ("theirs", "counts", "columns"),
    [
        (OURS, (2, 2, 0, 0), {}),
        (OURS[::-1], (2, 2, 0, 0), {}),
        (OURS[:1], (1, 1, 1, 0), {}),
        ([*OURS, (3, *OURS[0][1:])], (2, 2, 0, 1), {}),
        ([OURS[0], (2, "2150-01-02 00:00:01", None, "b")], (2, 1, 0, 0), {"moment": 1}),
        ([OURS[0], (2, OURS[1][1], 0, "b")], (2, 1, 0, 0), {"value": 1}),
        ([(1, OURS[0][1], 0.75, None), OURS[1]], (2, 1, 0, 0), {"value": 1, "name": 1}),
        ([*OURS, OURS[0]], (2, 2, 0, 1), {}),
    ],
)
def test_rows_are_paired_by_key_and_then_compared(theirs, counts, columns):
    result = compare(OURS, values(theirs))
    assert (result.compared, result.equal, result.only_ours, result.only_theirs) == counts
    assert result.different_columns == columns
    assert result.agrees == (counts == (2, 2, 0, 0))


@pytest.mark.parametrize(
    ("difference", "equal"), [(1e-9, True), (0.9e-6, True), (1e-6, True), (2e-6, False), (-0.1, False)]
)
def test_numbers_are_equal_to_a_millionth(difference, equal):
    result = compare(OURS, values([(1, OURS[0][1], 0.5 + difference, "a"), OURS[1]]))
    assert result.agrees == equal
    if not equal:
        assert result.largest_difference == pytest.approx(abs(difference), rel=0.1)


@pytest.mark.parametrize("missing", ["'NaN'::DOUBLE", "'NaN'::FLOAT", "NULL::DECIMAL(9, 4)"])
def test_nan_is_null_whatever_the_type(missing):
    value = f"CASE WHEN id = 2 THEN {missing} ELSE 0.5 END"
    assert compare(OURS, f"(SELECT id, moment, {value} AS value, name FROM {values(OURS)})").agrees


def test_repeated_keys_are_compared_as_a_set():
    twins = [(1, OURS[0][1], 0.5, "a"), (1, OURS[0][1], 0.25, "a")]
    assert compare(twins, values(twins[::-1])).agrees
    one_missing = compare(twins, values(twins[:1]))
    assert (one_missing.compared, one_missing.equal, one_missing.only_ours) == (1, 1, 1)


def test_every_concept_agrees_with_the_official_one(demo_connection, shared):
    results = compare_concepts(demo_connection, shared / "clinical/mimic_code_reference")
    assert len(results) == 12 < len(load_official_concepts())  # the others agree on fuzzed tables
    assert [result.concept for result in results if not result.agrees] == []
    assert sum(result.compared for result in results) == 25_800


def test_rows_of_the_reference_patients_that_the_reference_lacks_are_found(demo_connection, shared, tmp_path):
    reference = shared / "clinical/mimic_code_reference"
    shutil.copy(reference / "age.parquet", tmp_path)
    duckdb.sql(f"FROM '{reference}/sepsis3.parquet' ORDER BY ALL LIMIT 30").write_parquet(
        str(tmp_path / "sepsis3.parquet")
    )
    by_name = {result.concept: result for result in compare_concepts(demo_connection, tmp_path)}
    assert (by_name["sepsis3"].compared, by_name["sepsis3"].only_ours) == (30, 3)
    assert by_name["age"].agrees


def test_a_file_without_subject_ids_is_matched_by_its_stays(demo_connection, shared, tmp_path):
    source = shared / "clinical/mimic_code_reference/urine_output.parquet"
    duckdb.sql(f"SELECT * EXCLUDE subject_id FROM '{source}'").write_parquet(
        str(tmp_path / "urine_output.parquet")
    )
    assert [result.agrees for result in compare_concepts(demo_connection, tmp_path)] == [True]


def test_what_concepts_writes_agrees_with_itself_and_is_sorted(demo_connection, tmp_path):
    named = []
    counts = write_concepts(
        demo_connection, tmp_path, load_official_concepts(), lambda *step: named.append(step)
    )
    assert named == list(zip(counts, range(len(counts))[::-1], strict=True))
    assert (counts["sofa"], counts["sepsis3"], counts["suspicion_of_infection"]) == (12_209, 62, 903)
    assert all(result.agrees for result in compare_concepts(demo_connection, tmp_path))
    stays = [stay for (stay,) in duckdb.sql(f"SELECT stay_id FROM '{tmp_path}/sofa.parquet'").fetchall()]
    assert stays == sorted(stays)


@pytest.mark.parametrize(
    ("name", "query", "expected"),
    [
        (None, None, "no parquet file"),
        ("kdigo", "SELECT 1 AS stay_id", "kdigo.parquet"),
        ("age", "SELECT 1 AS subject_id, 2 AS age", "column admittime, anchor_age"),
        ("urine_output", "SELECT 1 AS stay_id, 'x' AS charttime, 2 AS urineoutput", "urine_output"),
    ],
)
def test_a_foreign_reference_is_refused(demo_connection, tmp_path, name, query, expected):
    if name:
        duckdb.sql(query).write_parquet(str(tmp_path / f"{name}.parquet"))
    with pytest.raises(TableError, match=expected):
        compare_concepts(demo_connection, tmp_path)


def test_an_unreadable_reference_is_refused(demo_connection, tmp_path):
    (tmp_path / "age.parquet").write_text("subject_id\n1\n")
    with pytest.raises(TableError, match=r"age\.parquet.*not a readable parquet file"):
        compare_concepts(demo_connection, tmp_path)


def test_the_commands_write_privately_and_report_by_exit_code(tmp_path):
    mimic, out = six_septic_patients().write(tmp_path / "mimic"), tmp_path / "derived"
    written = CliRunner().invoke(app, ["concepts", "--mimic", str(mimic), "--out", str(out)])
    assert written.exit_code == 0, written.output
    assert out.stat().st_mode & 0o777 == 0o700
    # that equal ones agree, with exit code 0, test_concepts_of_every_place_agree says
    agree = ["agree", "--mimic", str(mimic), "--reference", str(out), "--json"]
    duckdb.sql(
        f"SELECT * REPLACE (CASE WHEN hr = 3 THEN sofa_24hours + 1 ELSE sofa_24hours END AS sofa_24hours) "
        f"FROM '{out}/sofa.parquet'"
    ).write_parquet(str(tmp_path / "sofa.parquet"))
    shutil.move(tmp_path / "sofa.parquet", out / "sofa.parquet")
    changed = CliRunner().invoke(app, agree)
    (sofa,) = [result for result in json.loads(changed.output)["concepts"] if not result["agrees"]]
    assert (changed.exit_code, sofa["concept"]) == (1, "sofa")
    assert (sofa["largest_difference"], sofa["only_ours"], sofa["only_theirs"]) == (1, 0, 0)
    assert sofa["different_columns"] == {"sofa_24hours": sofa["compared"] - sofa["equal"]}
