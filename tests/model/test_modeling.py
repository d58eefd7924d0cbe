"""The network computes what its formula says, and refuses what it would misread."""

from typing import Any

import numpy as np
import pytest
import torch

from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.modeling_sepsis_cql import IDENTITY, SepsisCQLModel


@pytest.fixture
def states(statistics: dict[str, list]) -> torch.Tensor:
    """(6, 62) values within and beyond the bounds, a fifth of them missing."""
    generator = torch.Generator().manual_seed(1)
    middle, scale = torch.tensor(statistics["mean"]), torch.tensor(statistics["scale"])
    states = middle + 3 * scale * torch.randn(6, 62, generator=generator)
    states[torch.rand(6, 62, generator=generator) < 0.2] = torch.nan
    return states


def test_q_values_follow_the_formula(
    model: SepsisCQLModel, statistics: dict[str, list], states: torch.Tensor
) -> None:
    x = states.double().numpy()
    low, high, fill, mean, scale = (np.array(statistics[name]) for name in IDENTITY)
    x = (np.where(np.isnan(x), fill, np.clip(x, low, high)) - mean) / scale
    weights = [value.detach().double().numpy() for value in model.net.parameters()]
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = np.maximum(x @ weight.T + bias, 0)
    expected = x @ weights[-2].T + weights[-1]
    np.testing.assert_allclose(model(states).q_values.detach(), expected, atol=1e-4)


def test_layers_are_62_256_256_25_under_the_published_names() -> None:
    shapes = {
        name: tuple(value.shape) for name, value in SepsisCQLModel(SepsisCQLConfig()).named_parameters()
    }
    assert shapes == {
        "net.0.weight": (256, 62),
        "net.0.bias": (256,),
        "net.2.weight": (256, 256),
        "net.2.bias": (256,),
        "net.4.weight": (25, 256),
        "net.4.bias": (25,),
    }


def test_training_starts_from_orthogonal_weights_and_zero_biases() -> None:
    network: Any = SepsisCQLModel(SepsisCQLConfig()).net
    for layer in network[::2]:
        weight = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
        torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), atol=1e-5, rtol=0)
        assert not layer.bias.any()


def test_the_seed_decides_the_initial_weights() -> None:
    def initial(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return SepsisCQLModel(SepsisCQLConfig()).get_parameter("net.0.weight")

    assert torch.equal(initial(1), initial(1))
    assert not torch.equal(initial(1), initial(2))


def test_an_identity_normalizer_passes_any_finite_value() -> None:
    model = SepsisCQLModel(SepsisCQLConfig(hidden_sizes=[4]))
    states = torch.tensor([[-1e30, 1e30, *[0.5] * 60]])
    assert torch.equal(model.normalize(states), states)


def test_an_identity_normalizer_refuses_missing_values(states: torch.Tensor) -> None:
    model = SepsisCQLModel(SepsisCQLConfig(hidden_sizes=[4]))
    with pytest.raises(ValueError, match=r"found NaN.*normalized"):
        model(states)


@pytest.mark.parametrize(
    ("states", "error", "message"),
    [
        (torch.zeros(2, 61), ValueError, r"\(2, 61\).*\(batch, 62\)"),
        (torch.zeros(62), ValueError, r"\(62,\).*\(batch, 62\)"),
        (torch.zeros(2, 62, dtype=torch.int64), TypeError, "torch.int64.*floating point"),
        (np.zeros((2, 62), dtype=np.float32), TypeError, "float32.*torch.Tensor"),
        ([[0.0] * 62], TypeError, "list.*torch.Tensor"),
    ],
)
def test_states_of_another_shape_or_type_are_refused(
    model: SepsisCQLModel, states: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model(states)


def test_double_precision_states_are_accepted(model: SepsisCQLModel, states: torch.Tensor) -> None:
    assert torch.equal(model(states.double()).q_values, model(states).q_values)


def test_the_greedy_action_has_the_largest_value(model: SepsisCQLModel, states: torch.Tensor) -> None:
    assert torch.equal(model.greedy_action(states), model(states).q_values.argmax(dim=1))


@pytest.mark.parametrize("temperature", [1e-30, 0.5, 1.0, 1e6])
def test_probabilities_are_the_softmax_of_scaled_values(
    model: SepsisCQLModel, states: torch.Tensor, temperature: float
) -> None:
    probabilities = model.action_probabilities(states, temperature)
    q_values = model(states).q_values.detach().double().numpy()
    expected = np.exp((q_values - q_values.max(axis=1, keepdims=True)) / temperature)
    np.testing.assert_allclose(probabilities, expected / expected.sum(axis=1, keepdims=True), atol=1e-6)


def test_probabilities_stay_finite_for_huge_values(model: SepsisCQLModel, states: torch.Tensor) -> None:
    with torch.no_grad():
        model.get_parameter("net.4.weight").mul_(1e30)
    probabilities = model.action_probabilities(states, 1e-20)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(6))
    assert torch.equal(probabilities.argmax(dim=1), model.greedy_action(states))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_must_be_positive_and_finite(
    model: SepsisCQLModel, states: torch.Tensor, temperature: float
) -> None:
    with pytest.raises(ValueError, match="temperature"):
        model.action_probabilities(states, temperature)


@pytest.mark.parametrize(
    ("action", "vasopressor", "fluid"),
    [
        (0, "none", "none"),
        (1, "none", "> 0 to 50 mL"),
        (4, "none", "> 530 mL"),
        (5, "> 0 to 0.05 mcg/kg/min", "none"),
        (13, "> 0.05 to 0.1 mcg/kg/min", "> 180 to 530 mL"),
        (24, "> 0.25 mcg/kg/min", "> 530 mL"),
    ],
)
def test_an_action_decodes_to_its_dose_ranges(
    model: SepsisCQLModel, action: int, vasopressor: str, fluid: str
) -> None:
    treatment = model.decode_action(np.int64(action))
    assert (treatment.action, str(treatment.vasopressor), str(treatment.fluid)) == (
        action,
        vasopressor,
        fluid,
    )
    assert treatment.vasopressor.bin * 5 + treatment.fluid.bin == action


def test_unpublished_edges_leave_the_dose_range_open() -> None:
    dose = SepsisCQLModel(SepsisCQLConfig(hidden_sizes=[4])).decode_action(10).vasopressor
    assert (dose.bin, dose.low, dose.high) == (2, None, None)
    assert "not published" in str(dose)


@pytest.mark.parametrize(("action", "error"), [(-1, ValueError), (25, ValueError), (1.0, TypeError)])
def test_an_unknown_action_is_refused(model: SepsisCQLModel, action: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        model.decode_action(action)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("scale", lambda values: [0.0, *values[1:]]),
        ("scale", lambda values: values[:-1]),
        ("mean", lambda values: [float("nan"), *values[1:]]),
        ("fill", lambda values: [float("inf"), *values[1:]]),
        ("clip_low", lambda values: [1e9, *values[1:]]),
        ("names", lambda values: values[::-1]),
    ],
)
def test_bad_statistics_are_refused_by_name(
    model: SepsisCQLModel, statistics: dict[str, list], field: str, change: Any
) -> None:
    before = model.state_dict()["mean"].clone()
    with pytest.raises(ValueError, match=f"normalizer.{field}"):
        model.set_normalizer({**statistics, field: change(statistics[field])})
    assert torch.equal(model.mean, before)


def test_statistics_need_a_named_source(statistics: dict[str, list]) -> None:
    model = SepsisCQLModel(SepsisCQLConfig(hidden_sizes=[4]))
    with pytest.raises(ValueError, match="source of the statistics"):
        model.set_normalizer(statistics)


def test_a_statistic_must_not_be_left_out(model: SepsisCQLModel, statistics: dict[str, list]) -> None:
    without = {name: values for name, values in statistics.items() if name != "fill"}
    with pytest.raises(ValueError, match="normalizer: found fields"):
        model.set_normalizer(without)
