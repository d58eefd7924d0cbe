"""A configuration means the published network, and refuses anything else by the name of the field."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassError

from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig

NAMES = SepsisCQLConfig().state_names


def test_default_inputs_are_the_published_ones_in_the_published_order(
    state_order: dict[str, Any],
) -> None:
    config = SepsisCQLConfig()
    assert config.state_names == state_order["state_order"]
    assert sorted(config.missing_flags) == sorted(state_order["missing_flags"])


def test_json_round_trip_keeps_every_field(tmp_path: Path) -> None:
    config = SepsisCQLConfig(
        vasopressor_edges=[0.05, 0.1, 0.25],
        fluid_edges=[50.0, 50.0, 530.0],
        hidden_sizes=[32],
        gamma=0.9,
        alpha=None,
        reward_variant="sofa_shaped",
        decision_interval_hours=2,
        normalization="train split of replay abc",
        training_data="nothing",
    )
    config.save_pretrained(tmp_path)
    restored = SepsisCQLConfig.from_pretrained(tmp_path)
    assert {name: getattr(restored, name) for name in SepsisCQLConfig.__annotations__} == {
        name: getattr(config, name) for name in SepsisCQLConfig.__annotations__
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state_names", []),
        ("state_names", [*NAMES, " "]),
        ("outputs", "scores"),
        ("algorithm", " "),
        ("state_names", [*NAMES[:-1], NAMES[0]]),
        ("state_names", [*NAMES[:-1], 7]),
        ("state_names", "age_years"),
        ("missing_flags", []),
        ("missing_flags", [*SepsisCQLConfig().missing_flags, "heart_rate_missing"]),
        ("missing_flags", SepsisCQLConfig().missing_flags[::-1]),
        ("n_actions", 24),
        ("n_actions", -25),
        ("n_actions", 25.0),
        ("n_actions", True),
        ("vasopressor_edges", [0.1, 0.2]),
        ("vasopressor_edges", [0.2, 0.1, 0.3]),
        ("vasopressor_edges", [0.0, 0.1, 0.3]),
        ("vasopressor_edges", [0.1, 0.2, float("inf")]),
        ("vasopressor_edges", [0.1, 0.2, float("nan")]),
        ("fluid_edges", [-1.0, 2.0, 3.0]),
        ("fluid_edges", ["1", "2", "3"]),
        ("fluid_edges", []),
        ("vasopressor_unit", None),
        ("fluid_unit", " "),
        ("hidden_sizes", []),
        ("hidden_sizes", [256, 0]),
        ("hidden_sizes", [-256]),
        ("hidden_sizes", [256.0]),
        ("hidden_sizes", 256),
        ("gamma", 1.01),
        ("gamma", -0.1),
        ("gamma", float("nan")),
        ("gamma", "0.99"),
        ("alpha", -0.05),
        ("alpha", float("inf")),
        ("alpha", float("nan")),
        ("reward_variant", "dense"),
        ("decision_interval_hours", 0),
        ("decision_interval_hours", 4.0),
        ("normalization", ""),
        ("training_data", 3),
    ],
)
def test_a_bad_value_is_refused_with_its_field(field: str, value: Any) -> None:
    with pytest.raises(StrictDataclassError, match=field):
        SepsisCQLConfig(**{field: value})


def test_a_flag_needs_its_feature() -> None:
    names = ["lactat" if name == "lactate" else name for name in NAMES]
    with pytest.raises(StrictDataclassError, match=r"missing_flags.*lactate"):
        SepsisCQLConfig(state_names=names)
