"""Leaks to plant: identifiers, dates, counts and rows in many spellings, at every place of a document."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

DATES = [
    "2153-04-01", "2153/04/01", "2153.04.01", "21530401", "01.04.2153", "01/04/2153", "4/1/2153", "04-01-2153",
    "1 April 2153", "April 1, 2153", "Apr 1 2153", "1-Apr-2153", "2153-W14-1", "2153-091", "2153-04-01T12:00:00Z",
    "2153 04 01", "2 1 5 3 - 0 4 - 0 1", "1st of April in the year 53", "５782000000",
]  # fmt: skip
TEXTS = [
    *DATES, "10012345", "subject 10012345", "10.012.345", "10-012-345", "1001 2345", "１００１２３４５", "0x98c6f9",
    "MTAwMTIzNDUsMTAwMTIzNDY=", "e99a18c428cb38d5f260853678922e03" * 2, "John Smith", "j.smith@hospital.org",
    "hf_" + "a" * 34, "glpat-" + "a" * 20, "/home/someone/mimic", "C:\\mimic\\hosp", "patient was admitted " * 40,
    "[[10012345, 71, 1]]", "\u200b10012345", "line\nbreak", "3", "",
]  # fmt: skip
NUMBERS = [
    10012345, 10012345.0, 10012.345, 1001.2345, 0.10012345, -10012345, 10**40, 1.0012345e200, 5782000000,
    float("nan"), float("inf"), "10012345", [10012345], {"n": 10012345}, True,
]  # fmt: skip
ROWS = [
    10012345, [[10012345, 71], [10012346, 68]], {"10012345": {"age": 71}}, "10012345", 3, 3.0, "3", [3], None,
    [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]],
]  # fmt: skip
KEYS = ["note", "n", "survivors", "rows", "10012345", "subject_id"]
COUNTS = [1, 3, 9, "3", 3.0, 13, -3]
COUNTED = {
    "n_episodes", "n_transitions", "n_patients", "n_stays", "wis_nonzero_episodes", "stays", "septic_stays", "episodes",
    "transitions", "deaths", "removed", "remaining", "train", "validation", "test", "n", "counts",
}  # fmt: skip

Place = tuple[str | int, ...]


def mutate(document: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield name and maker of copies of a document, each with one leak: in a value, a new field or a longer list."""
    for place, value in places(document):
        here = ".".join(map(str, place))
        for leak in leaks_for(place, value):
            yield f"{here} = {str(leak)[:30]!r}", partial(put, document, place, leak)
        if isinstance(value, dict):
            for index, leak in enumerate(ROWS):
                key = KEYS[index % len(KEYS)]
                yield f"{here}.{key} = {str(leak)[:30]!r}", partial(put, document, (*place, key), leak)
        if isinstance(value, list):
            for leak in (10012345, "10012345", [1001, 2345], None, 3.0):
                yield f"{here} + {leak!r}", partial(put, document, place, [*value, leak])
            yield f"{here} * 50", partial(put, document, place, [*value, *(value or [0.5])] * 50)


def leaks_for(place: Place, value: Any) -> list[Any]:
    """What is planted in place of a value; nothing that could be the value itself."""
    counts = COUNTS if any(part in COUNTED for part in place[-3:]) and "settings" not in place else []
    if isinstance(value, str):
        return [
            *[leak for leak in TEXTS if leak != value],
            f"{value} 10012345",
            f"{value}\n",
            10012345,
            *counts,
        ]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [*[leak for leak in NUMBERS if leak != value], *(counts if isinstance(value, int) else [])]
    return [10012345, "10012345", [10012345]] if value is None or isinstance(value, bool) else []


def places(document: Any) -> list[tuple[Place, Any]]:
    """One place for each shape: the items of a list are alike, so its first and last stand for all."""
    found: dict[tuple[str, ...], tuple[Place, Any]] = {}

    def walk(value: Any, place: Place, shape: tuple[str, ...]) -> None:
        found.setdefault(shape, (place, value))
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*place, key), (*shape, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, (*place, index), (*shape, f"[] {type(item).__name__}"))

    walk(document, (), ())
    return list(found.values())


def put(document: Any, place: Place, leak: Any) -> Any:
    """A copy of the document with the leak at a place; what lies beside it is shared."""
    if not place:
        return leak
    copy = document.copy()
    copy[place[0]] = put(document[place[0]], place[1:], leak) if place[1:] else leak
    return copy


def respell(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of the same document in other spellings, which may hide something."""
    text = content.decode()
    first = text.index('"')
    key = text[first : text.index(":", first)]
    yield "repeated key", text.replace(key, f'{key}: "10012345", {key}', 1).encode()
    yield "repeated key at the end", (text.rstrip()[:-1] + f", {key}: 3}}\n").encode()
    yield "spaces", text.replace("  ", "   ", 1).encode()
    yield "tabs", text.replace("  ", "\t", 1).encode()
    yield "compact", json.dumps(json.loads(text)).encode() + b"\n"
    yield "no last line end", content.rstrip()
    yield "line ends", text.replace("\n", "\r\n").encode()
    yield "spaces at the end", content + b" \t \t\n"
    yield "second document", content + b'{"subject_id": 10012345}\n'
    yield "bytes after the end", content + b"\x0010012345"
    yield "byte order mark", b"\xef\xbb\xbf" + content
    yield "utf-16", text.encode("utf-16")
    yield "escaped letter", text.replace(key, '"\\u00' + f"{ord(key[1]):02x}" + key[2:], 1).encode()
    yield "comment", b"// 10012345\n" + content
    yield "deep", b"[" * 100_000 + b"]" * 100_000
    yield "many digits", text.replace(": 0", ": 0." + "0" * 30 + "10012345", 1).encode() + b" "
    yield "NaN", text.replace(key, f"{key}: NaN, {key}", 1).encode()
    yield "key order", _reverse(text)
    yield "list instead", b"[" + content + b"]"
    yield "empty", b""


def _reverse(text: str) -> bytes:
    values = json.loads(text)
    return (json.dumps(dict(reversed(values.items())), indent=2) + "\n").encode()
