from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest
from PIL import Image, PngImagePlugin

from bunriwiki.artifacts.image_files import png
from bunriwiki.artifacts.image_files.header import BadImageError
from bunriwiki.artifacts.image_files.png import read_png, reduce_png
from bunriwiki.testing.hostile_images import flat_png, png_chunk, text_chunks

MakeImage = Callable[..., bytes]


def names(data: bytes) -> list[bytes]:
    """The names of the chunks of a PNG."""
    found, place = [], 8
    while place < len(data):
        found.append(data[place + 4 : place + 8])
        place += 12 + int.from_bytes(data[place : place + 4])
    return found


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "I;16"])
def test_the_header_is_read_from_its_first_bytes(make_image: MakeImage, mode: str) -> None:
    header = read_png(make_image("PNG", (41, 32), mode=mode, colour=None)[:24])
    assert (header.format, header.width, header.height, header.whole) == ("PNG", 41, 32, True)


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG",
        flat_png(4, 4)[:23],
        png.SIGNATURE + png_chunk(b"tEXt", bytes(13)),
        png.SIGNATURE + png_chunk(b"IHDR", bytes(14)),
        b"\x89PNG" + bytes(4) + png_chunk(b"IHDR", bytes(13)),
    ],
)
def test_what_does_not_begin_with_a_header_is_broken(data: bytes) -> None:
    with pytest.raises(BadImageError) as caught:
        read_png(data)
    assert caught.value.kind == "broken"


def test_only_what_the_picture_depends_on_is_left() -> None:
    picture = Image.new("P", (40, 30), 1)
    picture.putpalette([9, 8, 7] * 256)
    text = PngImagePlugin.PngInfo()
    text.add_text("key", "value" * 99, zip=True)
    text.add(b"prIv", b"private", after_idat=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    picture.save(stream, "PNG", pnginfo=text, exif=exif, transparency=b"\x10\x20", icc_profile=bytes(99), dpi=(9, 9))
    reduced = reduce_png(stream.getvalue())
    assert names(reduced.data) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    assert reduced.orientation == 6
    opened = Image.open(io.BytesIO(reduced.data))
    assert opened.convert("RGBA").tobytes() == Image.open(stream).convert("RGBA").tobytes()


def test_an_animation_is_its_first_picture() -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    assert b"fdAT" in names(stream.getvalue())
    reduced = reduce_png(stream.getvalue())
    assert names(reduced.data) == [b"IHDR", b"IDAT", b"IEND"]
    assert Image.open(io.BytesIO(reduced.data)).getpixel((0, 0)) == (255, 0, 0)


def test_a_second_header_is_dropped() -> None:
    other = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 6, 0, 0, 0))
    assert names(reduce_png(flat_png(4, 4, before=other)).data) == [b"IHDR", b"IDAT", b"IEND"]


def test_texts_before_and_after_the_pixels_are_dropped() -> None:
    plain = flat_png(4, 4)
    assert reduce_png(flat_png(4, 4, before=text_chunks(30_000), after=text_chunks(30_000))).data == plain


def test_what_follows_the_end_is_dropped_and_a_missing_end_is_added() -> None:
    plain = flat_png(4, 4)
    assert reduce_png(plain + bytes(99)).data == plain
    assert reduce_png(plain[:-12]).data == plain
    assert reduce_png(plain[:-1]).data == plain


@pytest.mark.parametrize("data", [flat_png(4, 4)[:-13], flat_png(4, 4)[:33], flat_png(4, 4)[:45]])
def test_a_png_without_all_of_its_pixels_is_broken(data: bytes) -> None:
    with pytest.raises(BadImageError, match="incomplete") as caught:
        reduce_png(data)
    assert caught.value.kind == "broken"


def test_many_chunks_are_rejected() -> None:
    few = png_chunk(b"IDAT", b"") * (png.MAX_CHUNKS - 3)  # besides the header, the pixels and the end
    reduce_png(flat_png(4, 4, before=few))
    with pytest.raises(BadImageError, match=f"more than {png.MAX_CHUNKS} chunks") as caught:
        reduce_png(flat_png(4, 4, before=few + png_chunk(b"IDAT", b"")))
    assert caught.value.kind == "too_large"


def test_long_exif_data_are_not_read() -> None:
    exif = b"II*\0" + struct.pack("<LHHHLL", 8, 1, 0x0112, 3, 1, 6)
    assert reduce_png(flat_png(4, 4, after=png_chunk(b"eXIf", exif))).orientation == 6
    assert reduce_png(flat_png(4, 4, after=png_chunk(b"eXIf", exif + bytes(2**16)))).orientation == 1
