"""Products by oneDNN are PyTorch's own; where they are missing, wrong or slow, PyTorch's own are used."""

import pytest
import torch

from sepsis_cql.common.errors import SettingsError
from sepsis_cql.training import devices
from sepsis_cql.training.devices import open_device
from sepsis_cql.training.settings import RuntimeSettings
from sepsis_cql.training.step import kernels

CAPABILITY = "get_cpu_capability"


def fail(*arguments):
    raise RuntimeError("could not create a primitive descriptor")


@pytest.fixture
def avx512(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, CAPABILITY, lambda: "AVX512")
    if not kernels._try_onednn():
        pytest.skip("this PyTorch has no products of oneDNN")


@pytest.mark.parametrize("n_rows", [7, kernels.MANY_ROWS])
@pytest.mark.parametrize("models", [(), (3,)], ids=["one model", "three"])
def test_products_by_onednn_equal_those_of_pytorch(avx512, monkeypatch, n_rows, models):
    sizes = (n_rows, 6), (5, 6), (5,), (n_rows, 5)
    inputs, weight, bias, gradient = (torch.randn(*models, *size) for size in sizes)
    found = []
    for uses_onednn in (False, True):
        monkeypatch.setattr(kernels, "_USES_ONEDNN", uses_onednn)
        found.append(
            [
                kernels.linear(inputs, weight, bias, relu=True),
                kernels.linear(inputs, weight, bias, relu=False),
                kernels.input_gradient(gradient, weight),
                *kernels.layer_gradient(gradient, inputs),
            ]
        )
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["_product", "_onednn_layer_gradient"])
@pytest.mark.parametrize("broken", [fail, lambda *arguments: torch.zeros(2, 4)], ids=["fails", "is wrong"])
def test_a_product_that_fails_or_is_wrong_is_not_used(avx512, monkeypatch, name, broken):
    monkeypatch.setattr(kernels, name, broken)
    assert not kernels._try_onednn()


def test_a_processor_without_avx512_multiplies_by_pytorch(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, CAPABILITY, lambda: "AVX2")
    monkeypatch.setattr(kernels, "_product", lambda *arguments: pytest.fail("tried all the same"))
    assert not kernels._try_onednn()


@pytest.mark.parametrize("supported", [True, False])
def test_bf16_is_refused_on_a_processor_that_cannot_multiply_in_it(monkeypatch, supported):
    monkeypatch.setattr(devices, "has_bf16_products", lambda: supported)
    runtime = RuntimeSettings(device="cpu", precision="bf16")
    if supported:
        assert open_device(runtime).type == "cpu"
    else:
        with pytest.raises(SettingsError, match=r"found bf16.*expected.*--set runtime\.precision=fp32"):
            open_device(runtime)


def test_a_pytorch_that_does_not_say_has_no_bf16_products(monkeypatch):
    monkeypatch.setattr(devices.torch, "ops", object())
    assert not devices.has_bf16_products()
