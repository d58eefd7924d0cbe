"""Which device a run uses, and what the record says about it."""

from pathlib import Path
from typing import Any

import torch

from sepsis_cql.configs.loading import load_settings
from sepsis_cql.errors import SettingsError
from sepsis_cql.training.settings import RuntimeSettings


def load_runtime(config: Path | None, overrides: dict[str, Any]) -> RuntimeSettings:
    """Runtime settings from a file or, without one, those shipped for the best device of this machine.

    Args:
        config: a runtime YAML; None chooses `runtime.cuda.yaml`, `runtime.mps.yaml` or `runtime.cpu.yaml`.
        overrides: values of command-line options; None values are ignored.
    """
    device = overrides.get("device") or "auto"
    file = config or Path(f"runtime.{best_device() if device == 'auto' else device}.yaml")
    return load_settings(
        RuntimeSettings, file, overrides if device != "auto" else {**overrides, "device": None}
    )


def best_device() -> str:
    """`cuda` where there is one, else `mps`, else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def open_device(runtime: RuntimeSettings) -> torch.device:
    """The device to train on, with the number of threads set.

    Raises:
        SettingsError: this machine does not have the device, or updates cannot be compiled for it.
    """
    name = best_device() if runtime.device == "auto" else runtime.device
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        usable = ", ".join(device for device, here in available.items() if here)
        raise SettingsError(f"device: found {name}, but this machine offers {usable}. Use --device auto.")
    if runtime.compiled and name != "cpu":
        raise SettingsError(
            f"compiled: found true for device {name}; only updates on a cpu are compiled. Use --no-compiled."
        )
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    return torch.device(name)


def describe_device(device: torch.device, runtime: RuntimeSettings) -> dict[str, Any]:
    """Facts that can change the last digits of a result."""
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "precision": runtime.precision,
        "compiled": runtime.compiled,
        "torch": str(torch.__version__),
    }
