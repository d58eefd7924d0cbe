"""The fingerprint of a table's rows: of their values, whatever their order and wherever they are kept."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sepsis_cql.common.storage import sha256_json

STEP = np.uint64(0x9E3779B97F4A7C15)
UNKNOWN = np.uint64(0xD1B54A32D192ED03)  # in place of NULL


def fingerprint_rows(file: Path) -> str:
    """Return a SHA-256 of the columns, the number of rows and two sums of 64-bit hashes of the rows.

    Sums modulo 2**64 do not depend on the order of rows, and count a row twice that is there twice. Each row's hash is
    mixed from its values, column after column, by the finalizer of SplitMix64 (Steele, Lea, Flood 2014); of text by the
    first eight bytes of its SHA-256. It tells tables apart, not forgers off.

    Args:
        file: parquet of integers, numbers, times and texts.
    """
    source = pq.ParquetFile(file)
    n_rows, sums = 0, [np.uint64(0), np.uint64(0)]
    with np.errstate(over="ignore"):
        for batch in source.iter_batches():
            hashes = np.zeros(len(batch), np.uint64)
            for column in batch.columns:
                hashes = _mix(hashes ^ _as_bits(column))
            sums = [sums[0] + hashes.sum(), sums[1] + _mix(hashes ^ UNKNOWN).sum()]
            n_rows += len(batch)
    columns = {field.name: str(field.type) for field in source.schema_arrow}
    return sha256_json([columns, n_rows, *map(int, sums)])


def _as_bits(column: pa.Array) -> np.ndarray:
    """One uint64 a value; equal values of one type have equal bits."""
    if pa.types.is_string(column.type):
        encoded = column.dictionary_encode()
        digests = [hashlib.sha256(text.encode()).digest()[:8] for text in encoded.dictionary.to_pylist()]
        codes = pc.fill_null(encoded.indices, len(digests)).to_numpy(zero_copy_only=False)
        return np.append(np.frombuffer(b"".join(digests), "<u8"), UNKNOWN)[codes]
    if pa.types.is_floating(column.type):
        numbers = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
        bits = (numbers + 0.0).view(np.uint64)  # -0 is 0
    else:
        whole = column.cast(pa.int32()) if pa.types.is_date32(column.type) else column
        bits = pc.fill_null(whole.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).view(np.uint64)
    if column.null_count:
        return np.where(pc.is_null(column).to_numpy(zero_copy_only=False), UNKNOWN, bits)
    return bits


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = bits + STEP
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
