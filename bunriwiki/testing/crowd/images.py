"""Photos that cost a client little and a careless server much."""

from __future__ import annotations

import struct
import zlib

MEGAPIXELS_50 = (8000, 6250)
TEXT_BYTES = 2**20  # of a text chunk, decompressed


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *, more: bytes = b"") -> bytes:
    """A black PNG with one bit a pixel."""
    rows = bytes((1 + -(-width // 8)) * height)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + more + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    )


def many_pixels() -> bytes:
    """6 KB that decode to 50 megapixels."""
    return _png(*MEGAPIXELS_50)


def much_text() -> bytes:
    """64 KB with 60 text chunks that decompress to a megabyte each."""
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(TEXT_BYTES), 9))
    return _png(32, 32, more=text * 60)
