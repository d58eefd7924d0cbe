"""JSON in one spelling only: read so that nothing can hide in it, and written by us."""

import json
import re
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import ValidationError

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.storage import distinct_keys, refuse_constant
from sepsis_cql.common.strict import Record

DEEPEST = 12
LARGEST = 1 << 20  # bytes
LONGEST_NUMBER = 25  # characters
BRACKET = re.compile(rb"[][{}]")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)

RecordT = TypeVar("RecordT", bound=Record)


def dump_json(value: Any) -> bytes:
    """Return the one spelling in which a document is published: indented, ASCII, no NaN."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")


def dump_record(record: Record) -> bytes:
    """Return the published spelling of a record."""
    return dump_json(record.model_dump(mode="json"))


def parse_json(content: bytes) -> Any:
    """Parse JSON without repeated keys, NaN, deep nesting or numbers of any length.

    Raises:
        ValueError: it is not such JSON; the message repeats nothing of it.
    """
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    _check_depth(content)
    try:
        return json.loads(
            content.decode("ascii"),
            object_pairs_hook=distinct_keys,
            parse_constant=refuse_constant,
            parse_int=lambda text: int(_short(text)),
            parse_float=lambda text: float(_short(text)),
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError("not JSON") from error


@lru_cache(maxsize=16)  # an export is read before it is written, before it goes up and when it has come down
def read_document(model: type[RecordT], content: bytes) -> RecordT:
    """Read a published document into its closed model, and require the very bytes that we would write of it.

    Raises:
        PublishingError: naming the fields of the model that are wrong, never what was found in them.
    """
    try:
        record = model.model_validate(parse_json(content))
    except ValidationError as error:
        raise PublishingError(_describe(error, model)) from None
    except ValueError as error:
        raise PublishingError(str(error)) from None
    if dump_record(record) != content:
        raise PublishingError("not spelt as it is published")
    return record


def _describe(error: ValidationError, model: type[Record]) -> str:
    places = {str(item["loc"][0]) if item["loc"] else "" for item in error.errors(include_input=False)}
    known = sorted(places & set(model.model_fields))
    parts = [*known, *(["fields that are not published"] if places - set(known) - {""} else [])]
    return f"not what is published in {', '.join(parts) or 'this document'}"


def _check_depth(content: bytes) -> None:
    depth = 0
    for bracket in BRACKET.findall(STRING.sub(b"", content)):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise ValueError("nested too deeply")


def _short(text: str) -> str:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("a number of many digits")
    return text
