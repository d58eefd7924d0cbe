"""YAML to frozen, strictly checked settings."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sepsis_cql.errors import SettingsError

CONFIGS = Path(__file__).parent


class Settings(BaseModel):
    """Base of every settings model: frozen, and a misspelt key fails with its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(model: type[SettingsT], path: Path, overrides: dict[str, Any] | None = None) -> SettingsT:
    """Read one YAML file into its settings model.

    Args:
        model: the settings model the file must satisfy.
        path: the YAML file; a bare name such as `cql.yaml` means the one shipped in `configs/`.
        overrides: values that replace those of the file, for command-line options; None values are ignored.

    Raises:
        SettingsError: the file is absent, not a YAML mapping, or a field is unknown or invalid.
    """
    path = Path(path)
    if not path.exists() and path.parent == Path():
        path = CONFIGS / path
    values = read_yaml(path)
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return model.model_validate(values, strict=False)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_explain(error)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        SettingsError: the file is absent or is not a YAML mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        shipped = ", ".join(sorted(file.name for file in CONFIGS.glob("*.yaml")))
        raise SettingsError(f"{path}: not found. Shipped settings: {shipped}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML ({error}).") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: found {type(values).__name__}, expected a mapping of settings.")
    return values


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "(whole file)"
        parts.append(f"{field}: {item['msg']} (found {item['input']!r})")
    return "; ".join(parts)
