from __future__ import annotations

import contextlib
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bunriwiki.artifacts.image_files.header import BadImageError
from bunriwiki.artifacts.image_files.reading import read_header, reduce_image
from bunriwiki.testing.hostile_images import (
    PNG_SIGNATURE,
    exif_with_large_values,
    flat_png,
    jpeg_segment,
    jpeg_without_data,
    png_chunk,
    text_chunks,
)

BODY = 10 * 2**20  # the largest body
STEPS = 8_000  # calls of functions that reading any header may take: a few milliseconds
MEMORY = 2**18  # bytes that reading any header may take

MakeImage = Callable[..., bytes]


def filled(head: bytes, unit: bytes) -> bytes:
    """A body of BODY bytes that begins with `head` and goes on with `unit` again and again."""
    return (head + unit * ((BODY - len(head)) // len(unit) + 1))[:BODY]


IHDR = struct.pack(">IIBBBBB", 8, 8, 1, 0, 0, 0, 0)
VP8X = b"RIFF\xff\xff\xff\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\x07\0\0\x07\0\0"
BODIES = {
    "marker bytes": filled(b"\xff\xd8", b"\xff"),
    "zeros": filled(b"\xff\xd8", b"\0"),
    "stuffed bytes": filled(b"\xff\xd8", b"\xff\0"),
    "markers alone": filled(b"\xff\xd8", b"\xff\xd0"),
    "comments": filled(b"\xff\xd8", b"\xff\xfe\0\2"),
    "far comments": filled(b"\xff\xd8", bytes(63) + b"\xff\xfe\0\2"),
    "long comments": filled(b"\xff\xd8", jpeg_segment(0xFE, bytes(65_533))),
    "tables": filled(b"\xff\xd8", jpeg_segment(0xDB, (b"\0" + b"\1" * 64) * 1000)),
    "EXIF data": filled(b"\xff\xd8", jpeg_segment(0xE1, exif_with_large_values())),
    "texts": filled(PNG_SIGNATURE + png_chunk(b"IHDR", IHDR), text_chunks(100_000)),
    "chunks": filled(PNG_SIGNATURE + png_chunk(b"IHDR", IHDR), png_chunk(b"IDAT", b"")),
    "frames": filled(VP8X, b"ANMF" + bytes(4)),
    "unknown chunks": filled(VP8X, b"prIv" + bytes(4)),
    "nothing known": filled(b"", b"GIF89a"),
}


@contextlib.contextmanager
def counted_calls() -> Iterator[list[int]]:
    """Counts the calls of functions in the block, of Python's and of C's, in the one element of the list."""
    count = [0]

    def profile(_: Any, event: str, __: Any) -> None:
        count[0] += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(None)


def peak_bytes(read: Callable[[bytes], object], data: bytes) -> int:
    """The most memory that `read` takes at a time."""
    tracemalloc.start()
    try:
        with contextlib.suppress(BadImageError):
            read(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BODIES)
def test_reading_the_header_of_any_body_takes_few_steps_and_little_memory(name: str) -> None:
    with counted_calls() as calls, contextlib.suppress(BadImageError):
        read_header(BODIES[name])
    assert calls[0] < STEPS
    assert peak_bytes(read_header, BODIES[name]) < MEMORY


@pytest.mark.parametrize("name", BODIES)
def test_reducing_any_body_takes_at_most_its_size_once_more(name: str) -> None:
    with counted_calls() as calls, contextlib.suppress(BadImageError):
        reduce_image(BODIES[name])
    assert calls[0] < 8 * STEPS
    assert peak_bytes(reduce_image, BODIES[name]) < BODY + 4 * 2**20


def part_of_a_file() -> st.SearchStrategy[bytes]:
    """Bytes, and what headers are made of, right and wrong."""
    small = st.binary(max_size=40)
    return st.one_of(
        small,
        st.builds(jpeg_segment, st.integers(0, 255), small),
        st.builds(png_chunk, st.sampled_from([b"IHDR", b"IDAT", b"PLTE", b"zTXt", b"eXIf", b"fdAT", b"IEND"]), small),
        st.builds(
            lambda name, size, content: name + struct.pack("<I", size) + content,
            st.sampled_from([b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF"]),
            st.integers(0, 60),
            small,
        ),
    )


BEGINNINGS = [
    b"",
    b"\xff\xd8",
    jpeg_without_data(40, 30),
    jpeg_without_data(40, 30)[:-30],
    PNG_SIGNATURE,
    flat_png(40, 30)[:33],
    flat_png(40, 30),
    b"RIFF\0\1\0\0WEBP",
    VP8X,
]


@settings(max_examples=300)
@given(st.sampled_from(BEGINNINGS), st.lists(part_of_a_file(), max_size=8))
def test_any_bytes_are_an_image_or_a_bad_one(beginning: bytes, parts: list[bytes]) -> None:
    data = beginning + b"".join(parts)
    try:
        header = read_header(data)
    except BadImageError as error:
        with pytest.raises(BadImageError) as caught:
            reduce_image(data)
        assert caught.value.kind == error.kind
        return
    assert header.cost > 0
    with contextlib.suppress(BadImageError):
        reduced = reduce_image(data)
        assert len(reduced.data) <= len(data) + 16
        assert read_header(reduced.data) == reduced.header == header
        assert reduce_image(reduced.data).data == reduced.data


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_the_header_of_every_format_is_read(make_image: MakeImage, file_format: str) -> None:
    header = read_header(make_image(file_format, (41, 32)))
    assert (header.format, header.width, header.height) == (file_format, 41, 32)


@pytest.mark.parametrize("data", [flat_png(10_001, 5_000), jpeg_without_data(8_193, 6_144)])
@pytest.mark.parametrize("read", [read_header, reduce_image])
def test_an_image_that_is_too_expensive_is_rejected_by_its_header(read: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(BadImageError) as caught:
        read(data)
    assert caught.value.kind == "too_large"
