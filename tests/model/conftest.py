"""A small model with a normalizer of its own, and clinical rows for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sepsis_cql.checkpoints.hub_package import new_feature_extractor, save_package
from sepsis_cql.checkpoints.original_pt import write_original_checkpoint
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.feature_extraction_sepsis_cql import SepsisCQLFeatureExtractor
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel


@pytest.fixture(scope="session")
def feature_extractor() -> SepsisCQLFeatureExtractor:
    return new_feature_extractor()


@pytest.fixture(scope="session")
def statistics(feature_extractor: SepsisCQLFeatureExtractor) -> dict[str, list]:
    """Mid-range mean and fill, a quarter of the range as scale; flags pass through."""
    bounds = {fact["name"]: (fact["low"], fact["high"]) for fact in feature_extractor.features}
    names = feature_extractor.state_names
    low, high = zip(*(bounds.get(name, (0.0, 1.0)) for name in names), strict=True)
    middle = [sum(bounds[name]) / 2 if name in bounds else 0.0 for name in names]
    scale = [(bounds[name][1] - bounds[name][0]) / 4 if name in bounds else 1.0 for name in names]
    return {
        "names": names,
        "clip_low": [*low],
        "clip_high": [*high],
        "fill": middle,
        "mean": middle,
        "scale": scale,
    }


@pytest.fixture
def model(statistics: dict[str, list]) -> SepsisCQLModel:
    torch.manual_seed(0)
    config = SepsisCQLConfig(
        hidden_sizes=[16, 8],
        vasopressor_edges=[0.05, 0.1, 0.25],
        fluid_edges=[50.0, 180.0, 530.0],
        normalization="made-up statistics of a test",
    )
    model = SepsisCQLModel(config).eval()
    model.set_normalizer(statistics)
    return model


@pytest.fixture
def make_row() -> Callable[..., dict[str, Any]]:
    """Values of a patient in shock; `make_row(lactate=None)` changes one."""
    row = {
        **{"heart_rate": 118, "map": 58.0, "sbp": 84.0, "dbp": 46.0, "resp_rate": 28.0, "temperature": 38.9},
        **{"spo2": 91.0, "gcs_total": 13, "fio2_vent": 0.6, "peep": 8.0, "pao2": 72.0, "paco2": 34.0},
        **{"arterial_ph": 7.24, "bicarbonate": 15.0, "base_excess": -9.0, "lactate": 5.4, "creatinine": 2.3},
        **{"bun": 41.0, "bilirubin_total": 1.8, "albumin": 2.4, "sodium": 134.0, "potassium": 4.9},
        **{"glucose": 182.0, "inr": 1.7, "ptt": 41.0, "wbc": 19.5, "haemoglobin": 9.8, "haematocrit": 30.1},
        **{"platelets": 96.0, "cum_iv_fluid_ml": 2750.0, "cum_vasopressor_dose_nor_equiv": 0.4},
        **{"urine_output_4h": 60.0, "age_years": 71.0, "weight_kg": 82.0, "pf_ratio": 120.0},
        **{"shock_index": 1.4, "hours_since_onset": 4.0},
    }

    def make(**changes: Any) -> dict[str, Any]:
        return {**row, **changes}

    return make


@pytest.fixture
def rows(make_row: Callable[..., dict[str, Any]]) -> pd.DataFrame:
    """Two stays of two steps, with gaps."""
    return pd.DataFrame(
        [
            make_row(stay_id=1, step_index=0),
            make_row(stay_id=1, step_index=1, lactate=None, urine_output_4h=None),
            make_row(stay_id=2, step_index=0, lactate=None, heart_rate=None, age_years=35),
            make_row(stay_id=2, step_index=1, lactate=1.1),
        ]
    )


@pytest.fixture
def package(model: SepsisCQLModel, feature_extractor: SepsisCQLFeatureExtractor, tmp_path: Path) -> Path:
    directory = tmp_path / "package"
    save_package(model, feature_extractor, directory)
    return directory


@pytest.fixture
def written(model: SepsisCQLModel, tmp_path: Path) -> Path:
    """A checkpoint of ours in the published layout, after one step of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    model(torch.zeros(4, 62)).q_values.mean().backward()
    optimizer.step()
    return write_original_checkpoint(
        model,
        tmp_path,
        epoch=2,
        global_step=10,
        optimizer_state=optimizer.state_dict(),
        facts={"metrics": {"td_loss_mean": 1.5}},
    )
