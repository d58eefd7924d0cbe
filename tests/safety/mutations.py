"""Systematic damage to documents, settings, containers and columns: every mutation makes an input that is wrong."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

ABSENT = object()
WRONG_TYPES: tuple[Any, ...] = (None, {"x": [1]}, [[{}]])
DAMAGED_BYTES = {
    "empty": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "cut by one byte": lambda data: data.rstrip()[:-1],
    "not text": lambda data: b"\xff\xfe\x00" + data,
    "a zero byte first": lambda data: b"\0" + data,
}
DAMAGED_TEXT = DAMAGED_BYTES | {
    "a list": lambda data: b"[1, 2]",
    "a number": lambda data: b"7",
    "nothing": lambda data: b"null",
    "an empty object": lambda data: b"{}",
    "another object": lambda data: b'{"made": "up"}',
    "nested": lambda data: b"[" * 100_000,
    "a long number": lambda data: b'{"a": ' + b"9" * 5000 + b"}",
    "twice": lambda data: data + data,
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every field of a nested document, of lists only the first entry's."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else list(enumerate(value))[:1]
        if isinstance(value, list)
        else ()
    )
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def damage_document(value: Any, *, most: int = 30) -> dict[str, Any]:
    """Return documents that are each wrong in one place, by what was done; at most so many, evenly over the whole.

    A field is left out, has another type, is not finite where it is a number, or holds an unknown field.
    """
    changes: dict[str, tuple[tuple[Any, ...], Any]] = {}
    for path in places(value):
        name, old = ".".join(map(str, path)), _follow(value, path)
        if isinstance(path[-1], str):
            changes[f"without {name}"] = (path, ABSENT)
        changes |= {
            f"{name} is {type(w).__name__}": (path, w) for w in WRONG_TYPES if type(w) is not type(old)
        }
        if isinstance(old, float):
            changes[f"{name} is not finite"] = (path, math.nan)
        if isinstance(old, dict):
            changes[f"{name} has an unknown field"] = (path, old | {"unknown": 1})
    chosen = list(changes)[:: max(1, len(changes) // most)]
    return {name: _changed(value, *changes[name]) for name in chosen}


def write_exponents(value: Any, *, most: int = 3) -> dict[str, str]:
    """Return JSON texts in each of which one number has an exponent that no number can have."""
    found = [path for path in places(value) if isinstance(_follow(value, path), float)]
    return {
        f"{'.'.join(map(str, path))} is 1e999": json.dumps(_changed(value, path, "here")).replace(
            '"here"', "1e999"
        )
        for path in found[:: -(-len(found) // most) or 1]
    }


def repeat_key(text: str) -> str:
    """Return a JSON object whose first key stands there twice."""
    key = next(iter(json.loads(text)))
    return text.replace("{", "{" + f'"{key}": 1, ', 1)


def damage_columns(table: pa.Table) -> dict[str, pa.Table]:
    """Return tables that are each wrong in one column, by what was done."""
    found = {}
    for index, name in enumerate(table.column_names):
        column = table[name]
        found[f"without {name}"] = table.drop_columns([name])
        nulls = pa.nulls(table.num_rows, column.type)
        found[f"{name} without values"] = table.set_column(index, name, nulls)
        found[f"{name} as text"] = table.set_column(index, name, pa.array(["a cell"] * table.num_rows))
        found[f"{name} as lists"] = table.set_column(index, name, pa.array([[1.5]] * table.num_rows))
        found[f"{name} twice"] = table.append_column(name, column)
        if pa.types.is_floating(column.type):
            bad = np.array(column.to_numpy())
            bad[-1] = np.inf
            found[f"{name} is infinite"] = table.set_column(index, name, pa.array(bad))
        if pa.types.is_integer(column.type):
            bad = np.array(column.to_numpy()).astype(float)
            bad[0] += 0.5
            found[f"{name} is not whole"] = table.set_column(index, name, pa.array(bad))
            found[f"{name} is huge"] = table.set_column(
                index, name, pa.array(np.full(table.num_rows, 2**63, np.uint64))
            )
    return found


def _follow(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    document = copy.deepcopy(value)
    holder = _follow(document, path[:-1])
    if new is ABSENT:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return document
