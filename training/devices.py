"""Which device a run uses, and what the record says about it."""

from typing import Any

import torch

from sepsis_cql.common.errors import SettingsError
from sepsis_cql.common.strict import find_settings, load_settings
from sepsis_cql.training.records import RuntimeFacts
from sepsis_cql.training.settings import RuntimeSettings


def load_runtime(config: str | None, changes: dict[str, Any] | None = None) -> RuntimeSettings:
    """Read runtime settings: those named or, by default, those shipped for the best device of this machine.

    Args:
        config: shipped settings such as `runtime.cuda`, or a file; None for `runtime.cuda`, `runtime.mps` or
            `runtime.cpu`, whichever `changes` name or this machine has.
        changes: values that replace those of the file.
    """
    changes = dict(changes or {})
    if config is None:
        device = changes.pop("device", "auto")
        config = f"runtime.{best_device() if device == 'auto' else device}"
    return load_settings(RuntimeSettings, find_settings(config, "device"), changes)


def best_device() -> str:
    """Return `cuda` where there is one, else `mps`, else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def open_device(runtime: RuntimeSettings) -> torch.device:
    """Return the device to train on, as `find_device` does, and set the number of threads."""
    device = find_device(runtime)
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    return device


def find_device(runtime: RuntimeSettings) -> torch.device:
    """Return the device to train on.

    Raises:
        SettingsError: this machine lacks the device or its bfloat16 products, or updates cannot be compiled for it.
    """
    name = best_device() if runtime.device == "auto" else runtime.device
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        usable = ", ".join(device for device, here in available.items() if here)
        raise SettingsError(
            f"device: found {name}, but this machine offers {usable}. Use --set runtime.device=auto."
        )
    if runtime.compiled and name != "cpu":
        raise SettingsError(
            f"compiled: found true for device {name}; only updates on a cpu are compiled. Use "
            "--set runtime.compiled=false."
        )
    if runtime.precision == "bf16" and name == "cpu" and not has_bf16_products():
        raise SettingsError(
            "precision: found bf16, but this processor cannot multiply in bfloat16 (expected one with AVX-512 or "
            "AMX that PyTorch's oneDNN uses for it). Use --set runtime.precision=fp32."
        )
    return torch.device(name)


def has_bf16_products() -> bool:
    """Return whether PyTorch multiplies bfloat16 matrices on this processor; no, where it does not say."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a private operation that another PyTorch may lack
        return False


def describe_device(device: torch.device, runtime: RuntimeSettings) -> RuntimeFacts:
    """Describe what of the machine can change the last digits of a result."""
    return RuntimeFacts(
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        threads=runtime.threads or torch.get_num_threads(),
        precision=runtime.precision,
        compiled=runtime.compiled,
        torch=str(torch.__version__),
    )
