from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.artifacts.image_files.orientation import MAX_BYTES, read_orientation


def exif(order: str, *entries: tuple[int, int, bytes]) -> bytes:
    """EXIF data with a directory of entries: tag, type, value in four bytes."""
    directory = b"".join(struct.pack(order + "HHL", tag, kind, 1) + value for tag, kind, value in entries)
    return {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "LH", 8, len(entries)) + directory


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_found_in_either_order(order: str, prefix: bytes, orientation: int) -> None:
    entries = [(0x010F, 2, b"abc\0"), (0x0112, 3, struct.pack(order + "HH", orientation, 0)), (0x0131, 2, b"abc\0")]
    assert read_orientation(prefix + exif(order, *entries)) == orientation


@pytest.mark.parametrize(("kind", "value"), [(1, b"\6\0\0\0"), (3, b"\6\0\0\0"), (4, b"\6\0\0\0")])
def test_the_orientation_may_be_any_whole_number(kind: int, value: bytes) -> None:
    assert read_orientation(memoryview(exif("<", (0x0112, kind, value)))) == 6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"no EXIF data",
        exif("<", (0x0111, 3, b"\6\0\0\0")),
        exif("<", (0x0112, 3, b"\0\0\0\0")),
        exif("<", (0x0112, 3, b"\x09\0\0\0")),
        exif("<", (0x0112, 11, b"\0\0\xc0\x40")),
        exif("<", (0x0112, 3, b"\6\0\0\0"))[:-6],
        b"II*\0" + struct.pack("<L", 2**32 - 1),
    ],
)
def test_without_a_valid_orientation_a_photo_is_upright(data: bytes) -> None:
    assert read_orientation(data) == 1


def test_an_orientation_behind_the_largest_directory_is_not_read() -> None:
    entries = [(1, 3, bytes(4))] * 5460 + [(0x0112, 3, b"\6\0\0\0")]
    assert len(exif("<", *entries)) > MAX_BYTES - 12
    assert read_orientation(exif("<", *entries[:-3], entries[-1])) == 6
    assert read_orientation(exif("<", *entries[:-1], *entries)) == 1


@given(st.binary(max_size=300), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_any_bytes_have_an_orientation(data: bytes, prefix: bytes) -> None:
    assert 1 <= read_orientation(prefix + data) <= 8
