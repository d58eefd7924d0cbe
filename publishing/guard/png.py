"""Pictures hold pixels only: no text, no comments, nothing after their end."""

import struct
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"pHYs"}


def scan_png(content: bytes) -> Iterator[str]:
    """Yield what a PNG file holds beside its pixels."""
    if not content.startswith(SIGNATURE):
        yield "is not a PNG picture"
        return
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if position + 8 > len(content):
            yield "is a truncated picture"
            return
        length, kind = struct.unpack(">I4s", content[position : position + 8])
        if kind not in CHUNKS:
            yield "holds text or metadata beside its pixels"
            return
        position += length + 12
    if position != len(content):
        yield "holds bytes after its end"
