"""Every exported concept agrees with the official query, also where text, storetimes and units are odd."""

import json

import pytest

from sepsis_cql.replay.mimic.concepts import create_concepts
from sepsis_cql.replay.report.official import load_official_concepts

from .fuzzed import GOLDEN, digest, load_fuzz


@pytest.fixture(scope="module")
def ours():
    connection = load_fuzz()
    create_concepts(connection)
    return digest(connection)


@pytest.mark.parametrize("concept", load_official_concepts())
def test_a_concept_agrees_with_the_official_query_on_fuzzed_tables(ours, concept):
    theirs = json.loads(GOLDEN.read_text(encoding="utf-8"))[concept]
    assert theirs["rows"] > 0
    assert ours[concept] == theirs


def test_a_mask_in_a_later_place_is_non_invasive_ventilation(concepts_of):
    keys = {"subject_id": 1, "hadm_id": 2, "stay_id": 3}
    rows = []
    for hour in (1, 2, 3):
        time = f"2150-01-01 0{hour}:00:00"
        rows.append(keys | {"charttime": time, "storetime": time, "itemid": 223834, "value": "30"})
        for minute, device in ((5, "Bipap mask "), (9, "High flow nasal cannula")):
            filed = f"2150-01-01 0{hour}:0{minute}:00"
            rows.append(keys | {"charttime": time, "storetime": filed, "itemid": 226732, "value": device})
    found = concepts_of({"chartevents": rows}).sql("SELECT ventilation_status FROM ventilation").fetchall()
    assert found == [("NonInvasiveVent",)]
