"""Clinical columns become states by one simple rule, and doubtful input is refused by column."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.feature_extraction_sepsis_cql import SepsisCQLFeatureExtractor
from sepsis_cql.replay.settings import Features

MakeRow = Callable[..., dict[str, Any]]


def state_of(extractor: SepsisCQLFeatureExtractor, rows: Any) -> pd.DataFrame:
    return pd.DataFrame(extractor(rows)["states"], columns=extractor.state_names)


def test_states_have_the_order_the_network_expects(feature_extractor: SepsisCQLFeatureExtractor) -> None:
    assert feature_extractor.state_names == SepsisCQLConfig().state_names


def test_units_flags_and_carrying_are_those_of_the_replay(
    feature_extractor: SepsisCQLFeatureExtractor,
) -> None:
    built_with = load_shipped(Features, "features.yaml").features
    facts = {fact["name"]: fact for fact in feature_extractor.features}
    assert {name: (fact["unit"], fact["flag"], fact["carry"]) for name, fact in facts.items()} == {
        name: (feature.unit, feature.flag, feature.carry) for name, feature in built_with.items()
    }


def test_one_row_gives_its_values_and_no_flag(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow
) -> None:
    state = state_of(feature_extractor, make_row()).iloc[0]
    row = make_row()
    assert {name: state[name] for name in row} == pytest.approx(row)
    assert not state[[name for name in state.index if name.endswith("_missing")]].any()


def test_missing_values_stay_missing_and_are_flagged(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow
) -> None:
    state = state_of(feature_extractor, make_row(lactate=None, heart_rate=float("nan"))).iloc[0]
    assert np.isnan(state["lactate"]) and state["lactate_missing"] == 1
    assert np.isnan(state["heart_rate"])  # has no flag in the published state


def test_values_are_carried_forward_within_a_stay_in_step_order(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame
) -> None:
    expected = pd.DataFrame(
        {
            "lactate": [5.4, 5.4, np.nan, 1.1],
            "lactate_missing": [0.0, 1.0, 1.0, 0.0],
            "heart_rate": [118.0, 118.0, np.nan, 118.0],
            "urine_output_4h": [60.0, np.nan, 60.0, 60.0],  # a window's sum says nothing of the next window
            "urine_output_4h_missing": [0.0, 1.0, 0.0, 0.0],
        },
        dtype=np.float32,
    )
    shuffled = rows.iloc[[3, 1, 0, 2]]
    result = state_of(feature_extractor, shuffled)[list(expected.columns)]
    pd.testing.assert_frame_equal(result, expected.iloc[[3, 1, 0, 2]].reset_index(drop=True))


def test_without_stay_and_step_rows_stand_alone(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame
) -> None:
    state = state_of(feature_extractor, rows.drop(columns=["stay_id", "step_index"]))
    assert state["lactate"].isna().tolist() == [False, True, True, False]


def test_carrying_equals_a_loop_over_random_stays(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow
) -> None:
    random = np.random.default_rng(0)
    keys = [(stay, step) for stay in (7, 3, 9) for step in range(6)]
    frame = pd.DataFrame([make_row(stay_id=stay, step_index=step) for stay, step in keys])
    names = feature_extractor.feature_names
    frame[names] = frame[names].where(random.random((len(frame), len(names))) < 0.4)
    frame = frame.iloc[random.permutation(len(frame))].reset_index(drop=True)

    expected = np.full((len(frame), len(names)), np.nan)
    newest: dict[tuple[int, str], float] = {}
    for index in frame.sort_values(["stay_id", "step_index"]).index:
        row = frame.loc[index]
        for column, fact in enumerate(feature_extractor.features):
            key = (row["stay_id"], fact["name"])
            if not np.isnan(row[fact["name"]]):
                newest[key] = row[fact["name"]]
            expected[index, column] = newest.get(key, np.nan) if fact["carry"] else row[fact["name"]]
    np.testing.assert_array_equal(state_of(feature_extractor, frame)[names], expected.astype(np.float32))


def test_column_order_does_not_matter(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame
) -> None:
    shuffled = rows[np.random.default_rng(0).permutation(rows.columns)]
    np.testing.assert_array_equal(feature_extractor(rows)["states"], feature_extractor(shuffled)["states"])


def test_every_form_of_rows_gives_the_same_states(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame
) -> None:
    expected = feature_extractor(rows)["states"]
    objects = rows.astype(object).where(rows.notna(), None)
    several: list[Any] = [rows.to_dict("list"), objects.to_dict("records"), objects, rows.convert_dtypes()]
    for form in several:
        np.testing.assert_array_equal(feature_extractor(form)["states"], expected)
    single: list[Any] = [rows.iloc[0], rows.iloc[0].to_dict(), objects.iloc[0]]
    for form in single:
        np.testing.assert_array_equal(feature_extractor(form)["states"], expected[:1])


@pytest.mark.parametrize(
    ("return_tensors", "kind"), [(None, np.ndarray), ("np", np.ndarray), ("pt", torch.Tensor)]
)
def test_states_come_in_the_requested_type(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame, return_tensors: str, kind: type
) -> None:
    states = feature_extractor(rows, return_tensors=return_tensors)["states"]
    assert type(states) is kind
    assert (np.asarray(states).shape, np.asarray(states).dtype) == ((4, 62), np.float32)


def test_save_and_load_keep_the_rule(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame, tmp_path: Any
) -> None:
    feature_extractor.save_pretrained(tmp_path)
    restored = SepsisCQLFeatureExtractor.from_pretrained(tmp_path)
    assert restored.features == feature_extractor.features
    np.testing.assert_array_equal(restored(rows)["states"], feature_extractor(rows)["states"])


@pytest.mark.parametrize(
    ("feature", "value", "advice"),
    [
        ("fio2_vent", 40, "0.21 to 1 fraction.*Divide by 100"),
        ("temperature", 98.0, "25 to 45 degC.*Fahrenheit"),
        ("spo2", 0.97, "Multiply by 100"),
        ("haematocrit", 0.41, "Multiply by 100"),
        ("haemoglobin", 135.0, "Divide by 10"),
        ("albumin", 38.0, "Divide by 10"),
        ("creatinine", 210.0, "Divide by 88.4"),
        ("platelets", 150000, "Divide by 1000"),
        ("paco2", 4.9, "kPa"),
        ("pf_ratio", 2.1, "Multiply by 100"),
        ("weight_kg", 82000, "grams"),
        ("hours_since_onset", 240, "minutes"),
        ("heart_rate", -1, "1 to 300 bpm"),
        ("age_years", 4, "18 to 120 years"),
        ("lactate", float("inf"), "infinite"),
        ("map", -float("inf"), "infinite"),
        ("sodium", "134", "expected numbers in mEq/L"),
        ("gcs_total", True, "expected numbers in score"),
        ("bun", pd.Timestamp("2020-01-01"), "expected numbers"),
        ("ptt", [1.0], "expected numbers"),
    ],
)
def test_a_doubtful_value_is_refused_with_column_and_advice(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow, feature: str, value: Any, advice: str
) -> None:
    with pytest.raises(ValueError, match=f"{feature}: .*{advice}"):
        feature_extractor([make_row(**{feature: value})])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="lactate"), r"\['lactate'\] missing.*NaN"),
        (lambda frame: frame.assign(lactat=1.0), r"\['lactat'\] unknown"),
        (lambda frame: frame.assign(lactate_missing=0.0), r"\['lactate_missing'\] unknown.*computed here"),
        (lambda frame: pd.concat([frame, frame[["map"]]], axis=1), r"\['map'\] appear more than once"),
        (lambda frame: frame.drop(columns="stay_id"), "found step_index alone"),
        (lambda frame: frame.drop(columns="step_index"), "found stay_id alone"),
        (lambda frame: frame.assign(step_index=[0, 0, 0, 1]), "1 steps appear more than once"),
        (lambda frame: frame.assign(step_index=[0, 0.5, 0, 1]), "step_index: found float64"),
        (lambda frame: frame.assign(stay_id=[1, 1, None, 2]), "1 rows without one"),
        (lambda frame: frame.to_numpy(), "rows: found ndarray"),
        (lambda frame: [], "rows: found list"),
        (lambda frame: [frame.iloc[0].to_dict(), {"map": 60.0}], "different columns"),
    ],
)
def test_doubtful_columns_and_keys_are_refused_by_name(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame, change: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        feature_extractor(change(rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: [{**facts[0], "low": 300.0}, *facts[1:]], "low 300"),
        (lambda facts: [{**facts[0], "color": "red"}, *facts[1:]], "color"),
        (lambda facts: [facts[0], *facts], "more than once"),
    ],
)
def test_damaged_facts_are_refused(
    feature_extractor: SepsisCQLFeatureExtractor, change: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SepsisCQLFeatureExtractor(features=change(feature_extractor.features))


def test_ratios_are_computed_where_their_columns_are_left_out(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow
) -> None:
    row = make_row(pao2=72.0, fio2_vent=0.6, heart_rate=118, sbp=84.0)
    del row["pf_ratio"], row["shock_index"]
    state = state_of(feature_extractor, row).iloc[0]
    assert state["pf_ratio"] == pytest.approx(120.0) and state["pf_ratio_missing"] == 0
    assert state["shock_index"] == pytest.approx(118 / 84)
    unknown = state_of(feature_extractor, row | {"fio2_vent": None, "heart_rate": None}).iloc[0]
    assert np.isnan(unknown["pf_ratio"]) and unknown["pf_ratio_missing"] == 1
    assert np.isnan(unknown["shock_index"])


def test_a_ratio_is_carried_and_dropped_out_of_bounds_as_in_a_replay(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame
) -> None:
    frame = rows.drop(columns="pf_ratio").assign(
        pao2=[72.0, np.nan, 400.0, 90.0], fio2_vent=[0.6, 0.6, 0.21, 0.45]
    )
    state = state_of(feature_extractor, frame)
    assert state["pf_ratio"].tolist() == pytest.approx([120.0, 120.0, np.nan, 200.0], nan_ok=True)
    assert state["pf_ratio_missing"].tolist() == [0, 1, 1, 0]


def test_a_ratio_needs_its_parts(feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow) -> None:
    row = make_row()
    del row["pf_ratio"], row["pao2"]
    with pytest.raises(ValueError, match=r"columns \['pao2', 'pf_ratio'\] missing"):
        feature_extractor(row)


def test_a_row_of_which_nothing_is_known_is_refused(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow
) -> None:
    empty = dict.fromkeys(make_row())
    with pytest.raises(ValueError, match=r"in 1 of 2 nothing at all is known.*leave these rows out"):
        feature_extractor([make_row(), empty])
    carried = [make_row(stay_id=1, step_index=0), empty | {"stay_id": 1, "step_index": 1}]
    assert feature_extractor(carried)["states"].shape == (2, 62)


def test_a_row_without_vital_signs_is_answered_with_a_warning(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow
) -> None:
    names = ("heart_rate", "map", "sbp", "dbp", "resp_rate", "spo2", "temperature", "shock_index")
    with pytest.warns(UserWarning, match="in 1 of 1 no vital sign is known"):
        feature_extractor(make_row(**dict.fromkeys(names)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"map": 120.0}, "map, sbp: in 1 of 1 rows map is above sbp"),
        ({"dbp": 200.0}, "dbp, sbp: in 1 of 1 rows dbp is above sbp"),
        (
            {"creatinine": 88.0, "bun": 14.0},
            "creatinine, bun: .*Divide creatinine by 88.4, multiply urea by 2.8",
        ),
        ({"creatinine": 88.0, "bun": 90.0, "glucose": 8.9}, "creatinine, glucose: .*x 18"),
        ({"pao2": 9.3}, "pao2, spo2: .*kPa"),
        ({"pao2": 9.3, "spo2": None, "paco2": 5.3}, "pao2, paco2: .*kPa"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        feature_extractor(make_row(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"map": 84.0, "dbp": 84.0},
        {"map": 120.0, "sbp": None},
        {"creatinine": 22.0, "bun": 180.0},
        {"glucose": 18.0},
        {"bilirubin_total": 26.0},
        {"pao2": 24.0, "spo2": 81.0},
        {"bun": 3.0},
    ],
)
def test_values_of_the_very_ill_are_taken(
    feature_extractor: SepsisCQLFeatureExtractor, make_row: MakeRow, changes: dict[str, Any]
) -> None:
    assert feature_extractor(make_row(**changes))["states"].shape == (1, 62)
