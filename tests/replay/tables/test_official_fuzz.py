"""Every exported concept agrees with the official query, also where text, storetimes and units are odd."""

import json

import duckdb
import pytest

from sepsis_cql.replay.mimic.concepts import FURTHER, create_concepts, read_query
from sepsis_cql.replay.report.official import load_official_concepts

from .fuzzed import GOLDEN, digest, load_fuzz


@pytest.fixture(scope="module")
def ours():
    connection = load_fuzz()
    create_concepts(connection, FURTHER)
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
    found = (
        concepts_of({"chartevents": rows}).execute("SELECT ventilation_status FROM ventilation").fetchall()
    )
    assert found == [("NonInvasiveVent",)]


CODES = {  # of the 109,775 codes of ICD-9 and ICD-10, how many the official query counts for each condition
    "myocardial_infarct": 55, "congestive_heart_failure": 72, "peripheral_vascular_disease": 372,
    "cerebrovascular_disease": 601, "dementia": 35, "chronic_pulmonary_disease": 134, "rheumatic_disease": 475,
    "peptic_ulcer_disease": 112, "mild_liver_disease": 72, "diabetes_without_cc": 96, "diabetes_with_cc": 286,
    "paraplegia": 93, "renal_disease": 72, "malignant_cancer": 1810, "severe_liver_disease": 27,
    "metastatic_solid_tumor": 93, "aids": 2,
}  # fmt: skip


def test_every_code_counts_for_the_comorbidity_the_official_query_gives_it(mimic_demo):
    connection = duckdb.connect()
    codes = f"read_csv('{mimic_demo}/hosp/d_icd_diagnoses.csv.gz', types = {{'icd_code': 'VARCHAR'}})"
    connection.execute(
        f"CREATE TABLE diagnoses_icd AS SELECT row_number() OVER () AS hadm_id, * FROM {codes}"
    )
    connection.execute("CREATE TABLE admissions AS SELECT hadm_id, hadm_id AS subject_id FROM diagnoses_icd")
    connection.execute("CREATE TABLE age AS SELECT hadm_id, 70 AS age FROM diagnoses_icd")
    sums = ", ".join(f"CAST(sum({name}) AS INTEGER)" for name in CODES)
    counts = connection.execute(f"SELECT {sums} FROM ({read_query('charlson')})").fetchall()[0]
    assert dict(zip(CODES, counts, strict=True)) == CODES
