"""WebP: the header, and the chunks that the picture depends on."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bunriwiki.artifacts.image_files.header import (
    MIN_COST,
    MIN_LOSSLESS_WEBP_COST,
    BadImageError,
    Header,
    Reduced,
    broken_header,
)
from bunriwiki.artifacts.image_files.orientation import MAX_BYTES, read_orientation

MAX_CHUNKS = 4096  # those of an animation's frames are among them
PIXELS = (b"VP8 ", b"VP8L", b"ANMF")  # chunks with a picture
_CONTENT = 20  # where the content of the first chunk begins
_EXTENDED_BYTES = 10  # of the content of VP8X
_DRAWN = 0b0001_0010  # the flags of VP8X for an animation and for transparency
_CHUNK = struct.Struct("<4sI")


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_webp(data: bytes) -> Header:
    """The header of a WebP, from its first 30 bytes: of the canvas, if it is an animation. Raises BadImageError.

    One in the extended form costs as much as a lossless one, which it may be, as may its transparency.
    """
    if not is_webp(data):
        raise broken_header()
    name, content = data[12:16], data[_CONTENT : _CONTENT + 10]
    if name == b"VP8X" and len(content) == _EXTENDED_BYTES:
        width, height = (1 + int.from_bytes(content[start : start + 3], "little") for start in (4, 7))
    elif name == b"VP8 " and content[3:6] == b"\x9d\x01\x2a" and len(content) == 10:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 6))
    elif name == b"VP8L" and content[:1] == b"\x2f" and len(content) >= 5:
        (packed,) = struct.unpack_from("<I", content, 1)
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        raise broken_header()
    return Header("WEBP", width, height, whole=True, min_cost=MIN_COST if name == b"VP8 " else MIN_LOSSLESS_WEBP_COST)


def reduce_webp(data: bytes) -> Reduced:
    """The WebP without colour profile, metadata, and the further frames of an animation. Raises BadImageError."""
    header = read_webp(data)
    kept: dict[bytes, bytes | memoryview] = {}  # of each kind of chunk the first
    exif: memoryview | bytes = b""
    for name, content in _chunks(memoryview(data)):
        if name == b"VP8X" and not kept:
            flags = bytes([content[0] & _DRAWN])
            kept[name] = _chunk(name, flags + bytes(content[1:_EXTENDED_BYTES]))
        elif name in (*PIXELS, b"ALPH", b"ANIM") and not any(picture in kept for picture in PIXELS):
            kept.setdefault(name, _chunk(name, content))
        elif name == b"EXIF" and len(content) <= MAX_BYTES:
            exif = content
        if b"VP8X" not in kept:
            break  # the simple form has one chunk
    body = b"".join([b"WEBP", *kept.values()])
    return Reduced(header, _CHUNK.pack(b"RIFF", len(body)) + body, read_orientation(exif))


def _chunk(name: bytes, content: bytes | memoryview) -> bytes:
    return b"".join([_CHUNK.pack(name, len(content)), content, bytes(len(content) % 2)])


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The name and the content of each chunk. Raises BadImageError."""
    place = 12
    for _ in range(MAX_CHUNKS):
        if len(view) - place < _CHUNK.size:
            return
        name, length = _CHUNK.unpack_from(view, place)
        place += _CHUNK.size
        if length > len(view) - place:
            raise BadImageError("broken", "The image is incomplete. Send the whole file again.")
        yield name, view[place : place + length]
        place += length + length % 2
    raise BadImageError("too_large", f"The WebP has more than {MAX_CHUNKS} chunks. Save it again with another program.")
