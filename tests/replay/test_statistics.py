import numpy as np
import pytest

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.rows.statistics import fit_normalizer
from sepsis_cql.replay.settings import Features

FEATURES = load_shipped(Features, "features.yaml")
NAMES = FEATURES.state_names
NAN = float("nan")


def fit(**columns: list[float]) -> dict[str, dict[str, float]]:
    """Statistics by state name of steps whose unnamed columns are NaN and whose flags are 1."""
    states = np.full((len(next(iter(columns.values()))), len(NAMES)), NAN, dtype=np.float32)
    for name in FEATURES.flags:
        states[:, NAMES.index(name)] = 1
    for name, values in columns.items():
        states[:, NAMES.index(name)] = values
    normalizer, _ = fit_normalizer(states, FEATURES)
    keys = ("clip_low", "clip_high", "fill", "mean", "scale")
    return {name: {key: getattr(normalizer, key)[i] for key in keys} for i, name in enumerate(NAMES)}


def test_missing_values_take_the_median_of_the_known_ones_before_mean_and_scale():
    assert fit(lactate=[1, 2, 6, NAN])["lactate"] == pytest.approx(
        {"clip_low": 0, "clip_high": 20, "fill": 2, "mean": 2.75, "scale": np.std([1, 2, 6, 2])}
    )


def test_values_beyond_the_clip_bounds_count_as_the_bound():
    assert fit(lactate=[1, 25, 29])["lactate"]["fill"] == 20


def test_a_constant_column_has_scale_1():
    assert fit(age_years=[50, 50, 50])["age_years"]["scale"] == 1


def test_flags_pass_through_unchanged():
    flag = {"clip_low": 0, "clip_high": 1, "fill": 0, "mean": 0, "scale": 1}
    assert fit(lactate_missing=[0, 1, 1])["lactate_missing"] == flag


def test_a_feature_nobody_was_measured_for_takes_its_normal_value_and_is_named():
    states = np.zeros((2, len(NAMES)), dtype=np.float32)
    states[:, NAMES.index("lactate")] = NAN
    normalizer, unmeasured = fit_normalizer(states, FEATURES)
    assert unmeasured == ["lactate"]
    assert normalizer.fill[NAMES.index("lactate")] == FEATURES.features["lactate"].normal
    assert normalizer.scale[NAMES.index("lactate")] == 1
