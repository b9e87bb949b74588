"""Small files of images that are expensive to decode, or whose headers are expensive to parse."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type of a PNG
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_BYTES = 2**20  # what each compressed text of `text_chunks` expands to: the most that Pillow decompresses


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def flat_png(width: int, height: int, *, depth: int = 1, colour: int = 0, before: bytes = b"", after: bytes = b"") -> bytes:
    """A black PNG, with the chunks `before` its pixels and `after` them."""
    row = bytes(1 + (width * CHANNELS[colour] * depth + 7) // 8)
    rows = max(1, 2**20 // len(row))
    compressor = zlib.compressobj(9)
    pixels = [compressor.compress(row * min(rows, height - done)) for done in range(0, height, rows)]
    palette = png_chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    return b"".join(
        [
            PNG_SIGNATURE,
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
            palette,
            before,
            png_chunk(b"IDAT", b"".join([*pixels, compressor.flush()])),
            after,
            png_chunk(b"IEND", b""),
        ]
    )


def text_chunks(size: int) -> bytes:
    """Compressed texts in `size` bytes of chunks at most, a thousand times as long when they are decompressed."""
    text = zlib.compress(bytes(TEXT_BYTES), 9)
    chunks = [png_chunk(b"zTXt", b"key%d\0\0" % number + text) for number in range(size // len(text))]
    while sum(map(len, chunks)) > size:
        chunks.pop()
    return b"".join(chunks)


def jpeg_segment(marker: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_without_data(width: int, height: int, *, frame: int = 0xC0, before: bytes = b"", scans: Sequence[bytes] = ()) -> bytes:
    """A grey JPEG of a few hundred bytes: a decoder makes up the pixels that are missing.

    `frame` is the marker of the kind of JPEG, `before` are segments at the beginning, and `scans` replace the one scan.
    """
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    tables = [kind + b"\1" + bytes(15) + b"\0" for kind in (b"\x00", b"\x10")]  # Huffman tables with one code
    whole_blocks = b"\0\x3f\0" if frame == 0xC0 else b"\0\0\0"
    return b"".join(
        [
            b"\xff\xd8",
            before,
            jpeg_segment(0xDB, b"\0" + b"\1" * 64),
            jpeg_segment(frame, struct.pack(">BHHB", 8, height, width, 3) + components),
            *(jpeg_segment(0xC4, table) for table in tables),
            *(scans or [jpeg_segment(0xDA, b"\3\1\0\2\0\3\0" + whole_blocks)]),
            b"\xff\xd9",
        ]
    )


def many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG in which each of `scans` scans, of 13 bytes, passes over the whole picture."""
    first = jpeg_segment(0xDA, b"\3\1\0\2\0\3\0\0\0\x0d") + b"\0"
    rest = [
        jpeg_segment(0xDA, b"\3\1\0\2\0\3\0\0\0" + bytes([(bit + 1) << 4 | bit])) + b"\0"
        for bit in (12 - number % 13 for number in range(scans - 1))
    ]
    return jpeg_without_data(width, height, frame=0xC2, scans=[first, *rest])


def exif_with_large_values(entries: int = 5000, size: int = 60_000) -> bytes:
    """EXIF data whose tags all have the same `size` bytes as their value, each of which a reader copies."""
    directory = b"".join(struct.pack("<HHLL", tag, 1, size, 8) for tag in range(1, entries + 1))
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, entries) + directory + bytes(4)
