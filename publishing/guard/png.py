"""Pictures in one spelling: the pixels, as our own writer puts them, and nothing else."""

import struct
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sepsis_cql.common.strict import Record
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.report.figures import FIGURES, make_figures
from sepsis_cql.evaluation.report.study_figure import make_study_figures
from sepsis_cql.evaluation.study import Study

SIGNATURE = b"\x89PNG\r\n\x1a\n"
EIGHT_BIT_RGB = (8, 2, 0, 0, 0)  # bit depth, color type, compression, filter, interlace
UP = 2  # the one filter our writer uses: each row minus the one above
CHUNKS = (b"IHDR", b"IDAT", b"IEND")
Report = Callable[[str, int], None]
LARGEST = 2_000  # pixels along a side
DPI = 110


def say_nothing(text: str, left: int) -> None:
    """Report nothing."""


def draw_pictures(
    evaluation: Evaluation, study: Study | None = None, report: Report = say_nothing
) -> dict[str, bytes]:
    """Draw every figure the published records have data for; PNG by name.

    Args:
        evaluation: the published record.
        study: likewise.
        report: called with each figure and how many are left at least.
    """
    pictures = dict(_draw(evaluation, make_figures, report))
    return pictures if study is None else pictures | _draw(study, make_study_figures, report)


def _draw(
    record: Record, make: Callable[[Any], Iterable[tuple[str, Figure]]], report: Report
) -> dict[str, bytes]:
    kept = _drawn(document := record.model_dump_json(), type(record), make)
    if not kept:
        found: dict[str, bytes] = {}
        for name, figure in make(type(record).model_validate_json(document)):
            report(f"figure {name.replace('_', ' ')}", max(1, len(FIGURES) - len(found)))
            figure.set_dpi(DPI)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            found[name] = encode_png(np.asarray(canvas.buffer_rgba())[..., :3])
        kept |= found
    return kept


@lru_cache(maxsize=8)
def _drawn(document: str, model: type[Record], make: Callable[[Any], Any]) -> dict[str, bytes]:
    """Return the one dictionary that keeps the pictures of a record once they are drawn."""
    return {}


def encode_png(pixels: np.ndarray) -> bytes:
    """Return (height, width, 3) uint8 pixels as a PNG of three chunks."""
    height, width, _ = pixels.shape
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.hstack([np.full((height, 1), UP, np.uint8), rows - above])
    contents = (
        struct.pack(">II5B", width, height, *EIGHT_BIT_RGB),
        zlib.compress(filtered.tobytes(), 9),
        b"",
    )
    return SIGNATURE + b"".join(map(_chunk, CHUNKS, contents))


def decode_png(content: bytes) -> np.ndarray:
    """Return the (height, width, 3) pixels of a PNG that our writer could have made.

    Raises:
        ValueError: anything but its three chunks, or bytes in them that are not pixels.
    """
    position, parts = len(SIGNATURE), []
    if not content.startswith(SIGNATURE):
        raise ValueError("not a picture")
    for kind in CHUNKS:
        length, found = struct.unpack_from(">I4s", content.ljust(position + 8, b"\0"), position)
        part = content[position + 8 : position + 8 + length]
        if found != kind or content[position : position + 12 + length] != _chunk(kind, part):
            raise ValueError("not a picture of three chunks")
        parts.append(part)
        position += 12 + length
    if position != len(content) or parts[2] or len(parts[0]) != 13:
        raise ValueError("holds more than a picture")
    width, height, *form = struct.unpack(">II5B", parts[0])
    if tuple(form) != EIGHT_BIT_RGB or not (0 < width <= LARGEST and 0 < height <= LARGEST):
        raise ValueError("not a picture of ours")
    rows = _inflate(parts[1], height * (1 + 3 * width)).reshape(height, -1)
    if (rows[:, 0] != UP).any():
        raise ValueError("not filtered as ours")
    return np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).reshape(height, width, 3)


def _inflate(data: bytes, size: int) -> np.ndarray:
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError("damaged pixels") from error
    if len(raw) != size or not stream.eof or stream.unused_data or stream.unconsumed_tail:
        raise ValueError("holds more than its pixels")
    return np.frombuffer(raw, np.uint8)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
