"""Rows have one fingerprint in any order and cut; any other value, place or number of rows is another."""

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sepsis_cql.replay.mimic.row_fingerprint import fingerprint_rows

ROWS = [
    {
        "id": 1,
        "number": 0.5,
        "text": "a",
        "time": datetime.datetime(2150, 1, 1),
        "day": datetime.date(2150, 1, 1),
    },
    {"id": 2, "number": None, "text": None, "time": None, "day": None},
    {
        "id": 3,
        "number": -2.0,
        "text": "b",
        "time": datetime.datetime(2150, 1, 2),
        "day": datetime.date(2150, 1, 2),
    },
]
TYPES = [("id", pa.int32()), ("number", pa.float32()), ("text", pa.string())]
SCHEMA = pa.schema([*TYPES, ("time", pa.timestamp("us")), ("day", pa.date32())])


@pytest.fixture
def fingerprint(tmp_path):
    def of(rows, **options):
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "rows.parquet", **options)
        return fingerprint_rows(tmp_path / "rows.parquet")

    return of


def test_order_and_cut_of_the_rows_do_not_matter(fingerprint):
    assert fingerprint(ROWS) == fingerprint(ROWS[::-1]) == fingerprint(ROWS, row_group_size=1)


@pytest.mark.parametrize(
    "change",
    [
        {"id": 4},
        {"number": 0.25},
        {"number": None},
        {"text": "b"},
        {"text": ""},
        {"time": None},
        {"day": None},
    ],
)
def test_another_value_counts(fingerprint, change):
    assert fingerprint([ROWS[0] | change, *ROWS[1:]]) != fingerprint(ROWS)


def test_a_value_in_another_row_and_a_repeated_row_count(fingerprint):
    swapped = [ROWS[0] | {"text": "b"}, ROWS[1], ROWS[2] | {"text": "a"}]
    found = {
        fingerprint(rows) for rows in (ROWS, swapped, [*ROWS, ROWS[0]], [*ROWS, ROWS[0], ROWS[0]], ROWS[:2])
    }
    assert len(found) == 5


def test_a_number_that_is_missing_is_not_zero_and_minus_zero_is(fingerprint):
    zero, minus, missing = ([ROWS[0] | {"number": number}] for number in (0.0, -0.0, None))
    assert fingerprint(zero) == fingerprint(minus) != fingerprint(missing)
