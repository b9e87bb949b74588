from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from bunriwiki.artifacts.image_files import webp
from bunriwiki.artifacts.image_files.header import MIN_COST, MIN_LOSSLESS_WEBP_COST, BadImageError
from bunriwiki.artifacts.image_files.webp import read_webp, reduce_webp

MakeImage = Callable[..., bytes]


def encoded(image: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "WEBP", **options)
    return stream.getvalue()


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) for name, content in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 12
    while place < len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        found.append((data[place : place + 4], data[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    return found


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).convert("RGBA").tobytes()


LOSSY = encoded(Image.new("RGB", (41, 32), "red"))
LOSSLESS = encoded(Image.new("RGB", (41, 32), "red"), lossless=True)
EXTENDED = encoded(Image.new("RGB", (41, 32), "red"), icc_profile=bytes(99), xmp=bytes(99))
ANIMATED = encoded(
    Image.new("RGBA", (41, 32), (255, 0, 0, 99)),
    save_all=True,
    append_images=[Image.new("RGB", (41, 32), colour) for colour in ("green", "blue")],
)


@pytest.mark.parametrize("data", [LOSSY, LOSSLESS, EXTENDED, ANIMATED], ids=["lossy", "lossless", "extended", "animated"])
def test_the_header_is_read_from_its_first_bytes(data: bytes) -> None:
    header = read_webp(data[:30])
    assert (header.format, header.width, header.height, header.whole) == ("WEBP", 41, 32, True)


def test_what_may_be_lossless_is_expensive_however_small_it_is() -> None:
    costs = [read_webp(data).cost for data in (LOSSY, LOSSLESS, EXTENDED, ANIMATED)]
    assert costs == [MIN_COST, *[MIN_LOSSLESS_WEBP_COST] * 3]


@pytest.mark.parametrize("data", [b"RIFF", LOSSY[:29], LOSSLESS[:24], EXTENDED[:29], b"RIFF....WAVEfmt " + bytes(50)])
@pytest.mark.parametrize("read", [read_webp, reduce_webp])
def test_a_header_that_is_cut_is_broken(read: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(BadImageError) as caught:
        read(data)
    assert caught.value.kind == "broken"


@pytest.mark.parametrize("place", [8, 12, 23, 24, 25])
def test_another_header_is_broken(place: int) -> None:
    data = bytearray(LOSSY)
    data[place] ^= 0xFF
    with pytest.raises(BadImageError):
        read_webp(bytes(data))


def test_the_largest_sizes_are_read() -> None:
    assert read_webp(riff((b"VP8L", b"\x2f" + b"\xff" * 4))).width == 2**14
    assert read_webp(riff((b"VP8L", b"\x2f" + b"\xff" * 4))).height == 2**14
    assert read_webp(riff((b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + b"\xff" * 4))).width == 2**14 - 1
    assert read_webp(riff((b"VP8X", bytes(4) + b"\xff\xff\xff\0\1\0"))).width == 2**24
    assert read_webp(riff((b"VP8X", bytes(4) + b"\xff\xff\xff\0\1\0"))).height == 257


@pytest.mark.parametrize("data", [LOSSY, LOSSLESS], ids=["lossy", "lossless"])
def test_the_simple_form_stays_as_it_is_without_what_follows(data: bytes) -> None:
    assert reduce_webp(data).data == data
    assert reduce_webp(data + bytes(999)).data == data


def test_colour_profile_and_metadata_are_dropped(make_image: MakeImage) -> None:
    reduced = reduce_webp(EXTENDED)
    assert [name for name, _ in chunks(reduced.data)] == [b"VP8X", b"VP8 "]
    assert chunks(reduced.data)[0][1][0] == 0
    assert pixels(reduced.data) == pixels(EXTENDED)
    assert reduce_webp(make_image("WEBP", orientation=6)).orientation == 6


def test_transparency_is_kept() -> None:
    data = encoded(Image.new("RGBA", (41, 32), (255, 0, 0, 99)), icc_profile=bytes(99))
    reduced = reduce_webp(data)
    assert [name for name, _ in chunks(reduced.data)] == [b"VP8X", b"ALPH", b"VP8 "]
    assert pixels(reduced.data) == pixels(data)


def test_an_animation_is_its_first_picture() -> None:
    assert [name for name, _ in chunks(ANIMATED)].count(b"ANMF") == 3
    reduced = reduce_webp(ANIMATED)
    assert [name for name, _ in chunks(reduced.data)] == [b"VP8X", b"ANIM", b"ANMF"]
    assert pixels(reduced.data) == pixels(ANIMATED)


def test_a_second_picture_is_dropped() -> None:
    [extended, picture] = chunks(reduce_webp(EXTENDED).data)
    assert chunks(reduce_webp(riff(extended, picture, picture, (b"VP8L", b""), (b"ALPH", b""), extended)).data) == [
        extended,
        picture,
    ]


def test_long_exif_data_are_not_read() -> None:
    exif = b"II*\0" + struct.pack("<LHHHLL", 8, 1, 0x0112, 3, 1, 6)
    parts = chunks(reduce_webp(EXTENDED).data)
    assert reduce_webp(riff(*parts, (b"EXIF", exif))).orientation == 6
    assert reduce_webp(riff(*parts, (b"EXIF", exif + bytes(2**16)))).orientation == 1


def test_a_picture_that_is_cut_is_broken() -> None:
    for data in (LOSSY, EXTENDED, ANIMATED):
        with pytest.raises(BadImageError, match="incomplete"):
            reduce_webp(data[:-3])


def test_many_chunks_are_rejected() -> None:
    [extended, picture] = chunks(reduce_webp(EXTENDED).data)
    few = [(b"prIv", b"")] * (webp.MAX_CHUNKS - 3)
    assert chunks(reduce_webp(riff(extended, *few, picture)).data) == [extended, picture]
    with pytest.raises(BadImageError, match=f"more than {webp.MAX_CHUNKS} chunks") as caught:
        reduce_webp(riff(extended, *few, picture, picture, picture))
    assert caught.value.kind == "too_large"
