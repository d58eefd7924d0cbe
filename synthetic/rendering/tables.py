"""Rows of MIMIC-IV tables as columns, and their csv.gz files, the same bytes for the same rows."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from sepsis_cql.common.strict import Settings
from sepsis_cql.synthetic.rendering.roster import NEVER

TIMES = ("time", "date")  # how the name of a column of minutes or of days ends
ON_DAYS = ("dod",)


class Item(Settings):
    """A row of `d_items`."""

    label: str
    linksto: str
    category: str
    unit: str | None = None


class LabItem(Settings):
    """A row of `d_labitems`."""

    label: str
    category: str
    fluid: str = "Blood"
    unit: str | None = None


class TableFormats(Settings):
    """The whole of `configs/synthetic_tables.yaml`: headers by folder and table, and both dictionaries."""

    headers: dict[str, dict[str, list[str]]]
    items: dict[int, Item]
    lab_items: dict[int, LabItem]


class Events:
    """Rows of one table, collected in blocks; a column a block lacks is empty there."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, np.ndarray]] = []
        self.n_rows = 0

    def add(self, stay: np.ndarray, **columns: Any) -> None:
        """Add a row for each entry of `stay` (positions in the roster); single values hold for all rows.

        Columns of times are minutes since 1970, `NEVER` for none; numbers use NaN for none, text None.
        """
        if len(stay):
            block = {name: fill(value, len(stay)) for name, value in columns.items()}
            self.blocks.append({"stay": stay, **block})
            self.n_rows += len(stay)

    def columns(self) -> dict[str, np.ndarray]:
        """Return all rows, one array a column."""
        names = dict.fromkeys(name for block in self.blocks for name in block)
        return {name: np.concatenate(list(self._parts(name))) for name in names}

    def _parts(self, name: str) -> Iterable[np.ndarray]:
        example = next(block[name] for block in self.blocks if name in block)
        empty = None if example.dtype == object else NEVER if name.endswith(TIMES) else np.nan
        for block in self.blocks:
            yield block[name] if name in block else fill(empty, len(block["stay"]))


def write_table(folder: Path, name: str, header: list[str], columns: dict[str, np.ndarray]) -> None:
    """Write `folder/name.csv.gz` with the header's columns, empty where `columns` has none.

    The gzip header carries no time, so that the same rows give the same bytes.
    """
    n = len(next(iter(columns.values())))
    arrays = [_to_arrow(column, columns.get(column.lower()), n) for column in header]
    sink = pa.BufferOutputStream()
    pacsv.write_csv(pa.table(arrays, names=header), sink, pacsv.WriteOptions(quoting_style="needed"))
    text = sink.getvalue().to_pybytes()
    first_line, rest = text.split(b"\n", 1)
    folder.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(first_line.replace(b'"', b"") + b"\n" + rest, compresslevel=1, mtime=0)
    (folder / f"{name}.csv.gz").write_bytes(packed)


def fill(value: Any, n: int) -> np.ndarray:
    """Return (n,) of one value, text or None as objects; an array is returned as it is."""
    if isinstance(value, np.ndarray):
        return value
    if value is None or isinstance(value, str):
        filled = np.empty(n, object)
        filled[:] = value
        return filled
    return np.full(n, value)


def _to_arrow(name: str, values: np.ndarray | None, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, pa.string())
    if name.endswith(TIMES) or name in ON_DAYS:
        missing = values == NEVER
        moments = np.where(missing, 0, values).astype(f"datetime64[{'D' if name in ON_DAYS else 'm'}]")
        return pa.array(moments if name in ON_DAYS else moments.astype("datetime64[s]"), mask=missing)
    if values.dtype == object:
        return pa.array(values, pa.string())
    return pa.array(values, mask=np.isnan(values) if values.dtype.kind == "f" else values == NEVER)
