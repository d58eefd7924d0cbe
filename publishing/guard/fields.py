"""The closed types that published fields are made of: nothing of a patient fits into any of them."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from sepsis_cql.common.privacy import round_number

LARGEST_WHOLE = 1_000_000  # below the identifiers of MIMIC, which have eight digits
LONGEST_SETTING = 16  # entries of a list of settings


def _has_few_digits(value: float) -> float:
    if value != round_number(value):
        raise ValueError("a number with more digits than are published")
    return value


Number = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_has_few_digits)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), AfterValidator(_has_few_digits)]
Tens = Annotated[int, Field(ge=10, lt=10_000_000, multiple_of=10)]
Whole = Annotated[int, Field(ge=0, lt=LARGEST_WHOLE)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}(-dirty)?$")]
Version = Annotated[
    str,
    Field(
        pattern=r"^(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){1,3}(\+(cpu|cu[0-9]{2,3}|rocm[0-9]\.[0-9]))?$"
    ),
]
Release = Annotated[str, Field(pattern=r"^[0-9](\.[0-9])?$")]  # of a data set


def check_setting(value: Any) -> Any:
    """Refuse settings that are not words, small whole numbers, short numbers, or short lists of them."""
    if isinstance(value, Mapping):
        for item in value.values():
            check_setting(item)
    elif isinstance(value, list):
        if len(value) > LONGEST_SETTING:
            raise ValueError("a long list")
        for item in value:
            check_setting(item)
    elif isinstance(value, str):
        if not (value.replace("_", "").isascii() and value.replace("_", "").isalpha() and len(value) <= 40):
            raise ValueError("a text that is not a word")
    elif isinstance(value, float):
        _has_few_digits(value)
    elif value is not None and not 0 <= value < LARGEST_WHOLE:
        raise ValueError("a whole number of more than six digits")
    return value


def round_numbers(value: Any) -> Any:
    """Return nested values with every float rounded to what is published of it."""
    if isinstance(value, Mapping):
        return {name: round_numbers(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [round_numbers(item) for item in value]
    return round_number(value) if isinstance(value, float) else value
