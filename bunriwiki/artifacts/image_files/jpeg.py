"""JPEG: the header, and the segments that the picture depends on."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bunriwiki.artifacts.image_files.header import BadImageError, Header, Reduced, broken_header
from bunriwiki.artifacts.image_files.orientation import read_orientation

SIGNATURE = b"\xff\xd8"
MAX_SEGMENTS = 512  # before the picture; a colour profile has at most 255, metadata of 10 MB 160
MAX_GAP = 64  # bytes between two segments, which some programs fill
MAX_SCANS = 64  # of a picture in many scans, each of which costs up to 2 ms at 12 megapixels; programs write 10 to 20
MAX_TABLE_BYTES = 2 + 8 * (17 + 256)  # of a segment with all Huffman tables that a decoder holds; quantization tables take less

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_LENGTH = struct.Struct(">H")
_FRAME = struct.Struct(">BHHB")  # precision, height, width, components
_SOF0, _SOF1, _SOF2, _DHT, _SOI, _EOI, _SOS, _DQT, _DRI, _APP0, _APP1, _APP14 = (
    0xC0, 0xC1, 0xC2, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE,
)  # fmt: skip
_OTHER_FRAMES = {0xC3, *range(0xC5, 0xD0)} - {0xCC}  # lossless, hierarchical, arithmetic
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment
_COLOURS = {_APP0: b"JFIF", _APP14: b"Adobe"}  # segments by which a decoder knows the colour space, and how they begin
_EXIF = b"Exif\0\0"


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment: its marker, and where it, its content and the next segment begin."""

    marker: int
    start: int
    content: int
    end: int


def read_jpeg(data: bytes) -> Header:
    """The header of a JPEG, from the first bytes of at most MAX_SEGMENTS segments. Raises BadImageError."""
    return _header(data, list(_segments(data)))


def reduce_jpeg(data: bytes) -> Reduced:
    """The JPEG without metadata, colour profile, previews and comments. Raises BadImageError."""
    segments = list(_segments(data))
    header = _header(data, segments)
    picture = segments[-1].start
    if header.whole and (scans := data.count(b"\xff\xda", picture)) > MAX_SCANS:
        raise BadImageError(
            "too_large", f"The JPEG has {scans} scans; at most {MAX_SCANS} are accepted. Send it as a baseline JPEG."
        )
    view = memoryview(data)
    kept = [view[segment.start : segment.end] for segment in segments[:-1] if _is_needed(data, segment)]
    described = (segment for segment in segments if segment.marker == _APP1 and _begins(data, segment, _EXIF))
    exif = next((view[segment.content : segment.end] for segment in described), b"")
    return Reduced(header, b"".join([SIGNATURE, *kept, view[picture:]]), read_orientation(exif))


def _segments(data: bytes) -> Iterator[_Segment]:
    """The segments up to the first scan, which is the last one. Raises BadImageError."""
    place = len(SIGNATURE)
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(data, place, place + MAX_GAP)
        if found is None:
            raise broken_header()
        marker, content = data[found.start() + 1], found.end() + _LENGTH.size
        if marker in (_SOI, _EOI):
            raise broken_header()
        if marker in _ALONE:
            place = found.end()
            continue
        if content > len(data):
            raise broken_header()
        (length,) = _LENGTH.unpack_from(data, found.end())
        place = found.end() + length
        if length < _LENGTH.size or place > len(data):
            raise broken_header()
        yield _Segment(marker, found.start(), content, place)
        if marker == _SOS:
            return
    raise BadImageError("too_large", f"The header of the JPEG has more than {MAX_SEGMENTS} segments. Send it without metadata.")


def _header(data: bytes, segments: list[_Segment]) -> Header:
    if any(segment.marker in _OTHER_FRAMES for segment in segments):
        raise BadImageError("unsupported", "The JPEG is of a rare kind. Send it as a baseline or a progressive JPEG.")
    frames = [segment for segment in segments if segment.marker in (_SOF0, _SOF1, _SOF2)]
    if len(frames) != 1 or frames[0].end - frames[0].content < _FRAME.size:
        raise broken_header()
    precision, height, width, components = _FRAME.unpack_from(data, frames[0].content)
    if precision != 8 or components not in (1, 3, 4):
        raise BadImageError(
            "unsupported", f"The JPEG has {components} channels of {precision} bits. Send one with 8 bits in grey, RGB or CMYK."
        )
    scan = segments[-1]
    in_one_scan = scan.end > scan.content and data[scan.content] == components
    return Header("JPEG", width, height, whole=frames[0].marker == _SOF2 or not in_one_scan)


def _is_needed(data: bytes, segment: _Segment) -> bool:
    """Whether the picture depends on the segment. Raises BadImageError for tables that no decoder needs."""
    if segment.marker in (_DHT, _DQT):
        if segment.end - segment.content > MAX_TABLE_BYTES:
            raise broken_header()
        return True
    if segment.marker in _COLOURS:
        return _begins(data, segment, _COLOURS[segment.marker])
    return segment.marker in (_SOF0, _SOF1, _SOF2, _DRI)


def _begins(data: bytes, segment: _Segment, prefix: bytes) -> bool:
    return data.startswith(prefix, segment.content, segment.end)
