"""YAML and JSON to frozen, strictly checked models: what a user sets, and what a stage records."""

import json
import re
from collections.abc import Iterable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sepsis_cql.common.errors import SepsisCQLError, SettingsError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.storage import read_json

FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # eight times as fast where libyaml is there
SHIPPED = ROOT / "configs"
LARGEST_YAML = 2**20  # bytes; the largest shipped file has a hundredth of it
DEEPEST_YAML = 100  # of one collection in another; libyaml's composer has no bound of its own and would crash
MOST_FIELDS, LONGEST_FOUND = 5, 80  # of an error message
FIELD = re.compile(r"[A-Za-z_]{1,40}(_sha256)?|[0-9]{1,4}")  # a name, or a place in a list
KINDS = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number", bool: "a fact"}


class Record(BaseModel):
    """Base of what a stage writes down: frozen, and an unknown field fails with its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Settings(Record):
    """Base of what a user sets: frozen, of finite numbers, and a misspelt key fails with its name."""

    model_config = ConfigDict(allow_inf_nan=False)


RecordT = TypeVar("RecordT", bound=Record)
SettingsT = TypeVar("SettingsT", bound=Settings)


def load_shipped(model: type[SettingsT], name: str, changes: dict[str, Any] | None = None) -> SettingsT:
    """Read a file in `configs/` of the installed package, wherever the command runs, as `load_settings` does."""
    return load_settings(model, SHIPPED / name, changes)


def load_settings(model: type[SettingsT], file: Path, changes: dict[str, Any] | None = None) -> SettingsT:
    """Read a YAML file into its model, after `changes`, nested as `--set` gives them, replaced some of its values.

    Raises:
        SettingsError: the file is absent, not a YAML mapping, or a field is unknown or invalid.
    """
    values = merge(read_yaml(file), changes or {})
    try:
        return model.model_validate(values, strict=False)
    except ValidationError as error:
        raise SettingsError(f"{file}: {explain(error)}") from error


def find_settings(value: str | Path, field: str = "") -> Path:
    """Return the settings file an option names: `cql` is the shipped one, `cql.yaml` or a path is a file of the user's.

    Args:
        value: of the option.
        field: that settings for this option have on top, so that shipped ones for something else do not fit.

    Raises:
        SettingsError: no shipped settings that fit have that name.
    """
    if str(value).endswith((".yaml", ".yml")):
        return Path(value)
    names = sorted(
        file.stem
        for file in SHIPPED.glob("*.yaml")
        if not field or re.search(rf"^{field}:", file.read_text(encoding="utf-8"), re.MULTILINE)
    )
    if str(value) not in names:
        raise SettingsError(
            f"{value}: not the name of shipped settings ({', '.join(names)}). A file of your own ends in .yaml."
        )
    return SHIPPED / f"{value}.yaml"


def list_names(file: Path, changes: dict[str, Any], field: str) -> list[str]:
    """Return the names in one mapping of settings, whose own model would have to import torch first."""
    values = merge(read_yaml(file), changes).get(field)
    if not isinstance(values, dict):
        raise SettingsError(f"{file}: {field}: found {type(values).__name__}, expected a mapping by name.")
    return list(values)


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        SettingsError: the file is absent or is not a YAML mapping.
    """
    try:
        if file.exists() and not file.is_file():
            raise SettingsError(f"{file}: found no regular file, expected one of settings.")
        if (size := file.stat().st_size) > LARGEST_YAML:
            raise SettingsError(f"{file}: found {size} bytes, expected at most {LARGEST_YAML} of settings.")
        values = deepcopy(_parse_settings(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(
            f"{file}: cannot be read ({error.strerror}). Expected a file of settings."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise SettingsError(f"{file}: not valid YAML ({error}). Correct it.") from error
    except RecursionError:
        raise SettingsError(f"{file}: nested too deeply. Expected a mapping of settings.") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{file}: found {type(values).__name__}, expected a mapping of settings.")
    return values


@lru_cache(maxsize=64)
def _parse_settings(text: str) -> Any:
    """Parse each text once: a package asks for the shipped ones hundreds of times, and a copy is much cheaper."""
    return parse_yaml(text)


class _PlainLoader(FastLoader):
    """Reads mappings whose keys stand once each, and whole numbers that fit into 64 bits."""

    def construct_yaml_int(self, node: Any) -> int:
        """Return the number of a node, refused where no array could hold it."""
        if not -(2**63) <= (value := super().construct_yaml_int(node)) < 2**63:
            raise yaml.YAMLError("found a whole number of more than 64 bits")
        return int(value)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node, refused where a key stands twice."""
        values = super().construct_mapping(node, deep)
        if len(values) != len(node.value):
            raise yaml.YAMLError("found a key twice in one mapping, expected it once")
        return values


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document without repeated keys, and aliases: a short file could grow without end."""
    depth = 0
    for event in yaml.parse(text, FastLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("found an alias, expected every value written out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_YAML:
            raise RecursionError
    return yaml.load(text, _PlainLoader)  # a SafeLoader


def parse_changes(lines: Iterable[str], sections: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse the values of `--set section.field=value` into nested changes by section.

    Args:
        lines: such as `training.alpha=0.5` or `evaluation.gates.minimum_ess=100`; values are read as YAML.
        sections: those the command has.

    Raises:
        SettingsError: a line has no section, field or value, or a section the command does not have.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for line in lines:
        path, equals, text = line.partition("=")
        section, *fields = path.strip().split(".")
        if not equals or not all([section, *fields]) or not fields or section not in changes:
            raise SettingsError(
                f"--set {line}: expected section.field=value with a section of {', '.join(changes)}."
            )
        try:
            value = parse_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise SettingsError(f"--set {line}: the value is not valid YAML.") from error
        for field in reversed(fields):
            value = {field: value}
        changes[section] = merge(changes[section], value)
    return changes


def write_changes(section: str, values: dict[str, Any]) -> list[str]:
    """Return nested changes as the lines that `parse_changes` reads."""
    lines = []
    for name, value in values.items():
        path = f"{section}.{name}"
        lines += write_changes(path, value) if isinstance(value, dict) else [f"{path}={json.dumps(value)}"]
    return lines


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with those of `changes` in their place, mapping by mapping."""
    both = {
        name: merge(values[name], change)
        for name, change in changes.items()
        if isinstance(change, dict) and isinstance(values.get(name), dict)
    }
    return values | changes | both


def read_record(model: type[RecordT], file: Path, *, expected: str) -> RecordT:
    """Read a JSON file that a stage wrote into its model.

    Args:
        model: of the record.
        file: the JSON file.
        expected: what it is and which command makes it, for the error message.

    Raises:
        SepsisCQLError: the file is absent, not JSON, or does not satisfy the model.
    """
    try:
        return model.model_validate(read_json(file, expected=expected), strict=False)
    except ValidationError as error:
        raise SepsisCQLError(f"{file}: {explain(error, quotes=False)}. Expected {expected}.") from error


def explain(error: ValidationError, *, quotes: bool = True) -> str:
    """Return one line for the fields that are wrong, five at most: name, what is wrong, the start of what was found.

    Args:
        error: of a model.
        quotes: whether to repeat values and names that were found. A user's settings are the user's own words; a record
            may hold what does not belong there, and then only its kind is said.
    """
    parts = []
    for item in error.errors()[:MOST_FIELDS]:
        names = [str(part) if quotes or FIELD.fullmatch(str(part)) else "…" for part in item["loc"]]
        found = repr(item["input"]) if quotes else KINDS.get(type(item["input"]), "nothing")
        parts.append(f"{'.'.join(names) or '(whole file)'}: {item['msg']} (found {_shorten(found)})")
    if (more := error.error_count() - MOST_FIELDS) > 0:
        parts.append(f"and {more} more")
    return "; ".join(parts)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_FOUND else f"{text[: LONGEST_FOUND - 1]}…"
