"""PNG: the header, and the chunks that the picture depends on."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bunriwiki.artifacts.image_files.header import BadImageError, Header, Reduced, broken_header
from bunriwiki.artifacts.image_files.orientation import MAX_BYTES, read_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 8192  # 10 MB in chunks of 1,280 bytes; libpng writes 8 KB
_FIRST = struct.Struct(">8sI4sII")  # the signature and the beginning of the first chunk
_CHUNK = struct.Struct(">I4s")
_AROUND = _CHUNK.size + 4  # the bytes of a chunk besides its content: length, name, checksum
_END = b"\0\0\0\0IEND\xaeB`\x82"


def read_png(data: bytes) -> Header:
    """The header of a PNG, from its first 24 bytes. Raises BadImageError."""
    if len(data) < _FIRST.size:
        raise broken_header()
    signature, length, name, width, height = _FIRST.unpack_from(data)
    if signature != SIGNATURE or length != 13 or name != b"IHDR":
        raise broken_header()
    return Header("PNG", width, height, whole=True)


def reduce_png(data: bytes) -> Reduced:
    """The PNG without texts, colour profiles, private chunks and the further frames of an animation. Raises BadImageError."""
    header = read_png(data)
    view = memoryview(data)
    kept: list[memoryview | bytes] = [view[: len(SIGNATURE)]]
    exif = view[:0]
    has_pixels = False
    for name, start, end in _chunks(data):
        if name == b"IDAT":
            has_pixels = True
            kept.append(view[start:end])
        elif name in (b"PLTE", b"tRNS") or (name == b"IHDR" and len(kept) == 1):
            kept.append(view[start:end])
        elif name == b"eXIf" and end - start <= MAX_BYTES:
            exif = view[start + _CHUNK.size : end - 4]
    if not has_pixels:
        raise BadImageError("broken", "The image is incomplete. Send the whole file again.")
    return Reduced(header, b"".join([*kept, _END]), read_orientation(exif))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk before the end of the picture, and its place in `data`. Raises BadImageError."""
    place = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if len(data) - place < _AROUND:
            return
        length, name = _CHUNK.unpack_from(data, place)
        end = place + _AROUND + length
        if name == b"IEND":
            return
        if end > len(data):
            raise BadImageError("broken", "The image is incomplete. Send the whole file again.")
        yield name, place, end
        place = end
    raise BadImageError("too_large", f"The PNG has more than {MAX_CHUNKS} chunks. Save it again with another program.")
