from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bunriwiki.artifacts import image
from bunriwiki.artifacts.image import Frame, decode
from bunriwiki.artifacts.image_files.header import BadImageError
from bunriwiki.artifacts.image_files.reading import read_header
from bunriwiki.testing.hostile_images import (
    exif_with_large_values,
    flat_png,
    jpeg_segment,
    jpeg_without_data,
    many_scans,
    png_chunk,
    text_chunks,
)
from bunriwiki.testing.paths import ROOT

MakeImage = Callable[..., bytes]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_wide_photo_is_centred_on_a_grey_square(make_image: MakeImage, file_format: str) -> None:
    tensor, frame = decode(make_image(file_format, (64, 32), colour=(255, 0, 0)), 32)
    assert tensor.shape == (3, 32, 32)
    assert tensor.dtype == np.float32
    assert frame == Frame(64, 32, 0.5, 0, 8)
    assert np.allclose(tensor[:, 16, 16], [1, 0, 0], atol=0.02)
    assert np.allclose(tensor[:, 2, 16], 114 / 255, atol=0.01)


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([64, 288, 640]))
def test_boxes_are_converted_back_to_pixels(width: int, height: int, size: int) -> None:
    frame = Frame.of(width, height, size)
    box = np.array([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]], dtype=np.float32)
    in_square = box * frame.scale + np.array([frame.left, frame.top] * 2)
    assert np.allclose(frame.to_pixels(in_square.astype(np.float32)), box, atol=0.01 * max(width, height))


def test_boxes_are_cut_at_the_borders() -> None:
    frame = Frame.of(100, 50, 100)
    assert frame.to_pixels(np.array([[-9, 0, 130, 100]], dtype=np.float32)).tolist() == [[0, 0, 100, 50]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_respected(orientation: int, mode: str) -> None:
    white: Any = {"RGB": (255, 255, 255), "RGBA": (255, 255, 255, 255), "L": 255, "I;16": 65535}[mode]
    black: Any = {"RGBA": (0, 0, 0, 255)}.get(mode, 0)
    upright = Image.new(mode, (40, 20), black)
    upright.paste(white, (0, 0, 10, 10))  # the upper left corner of the upright picture
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    stored.save(stream, "PNG", exif=exif)
    tensor, frame = decode(stream.getvalue(), 32)
    assert (frame.width, frame.height) == (40, 20)
    assert tensor[0, frame.top + 3, 3] > 0.9
    assert tensor[0, frame.top + 12, 28] < 0.1


def test_a_large_jpeg_is_decoded_at_a_smaller_scale_without_a_difference() -> None:
    gradient = Image.linear_gradient("L").resize((3000, 2000)).convert("RGB")
    stream = io.BytesIO()
    gradient.save(stream, "JPEG", quality=95)
    fast, frame = decode(stream.getvalue(), 288)
    slow = np.asarray(gradient.resize((288, 192)), dtype=np.float32).transpose(2, 0, 1) / 255
    assert (frame.width, frame.height) == (3000, 2000)
    assert np.abs(fast[:, 48:240] - slow).max() < 0.03


@pytest.mark.parametrize(
    ("file_format", "mode", "colour", "expected"),
    [
        ("PNG", "L", 255, (1, 1, 1)),
        ("PNG", "1", 1, (1, 1, 1)),
        ("PNG", "P", 0, (0, 0, 0)),
        ("PNG", "I;16", 65535, (1, 1, 1)),
        ("PNG", "RGBA", (255, 0, 0, 0), (1, 1, 1)),
        ("PNG", "LA", (0, 0), (1, 1, 1)),
        ("JPEG", "CMYK", (0, 0, 0, 0), (1, 1, 1)),
        ("WEBP", "RGBA", (0, 0, 255, 255), (0, 0, 1)),
    ],
)
def test_every_mode_becomes_rgb_on_white(
    make_image: MakeImage, file_format: str, mode: str, colour: object, expected: tuple[int, int, int]
) -> None:
    tensor, _ = decode(make_image(file_format, (32, 32), mode=mode, colour=colour), 32)
    assert np.allclose(tensor[:, 16, 16], expected, atol=0.02)


def test_malformed_exif_data_does_not_reject_a_photo() -> None:
    orientation = struct.pack("<HHLHH", 0x0112, 3, 1, 6, 0)
    software = struct.pack("<HHLf", 0x0131, 11, 1, 1.5)  # a number instead of a text
    exif = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + orientation + software + bytes(4)
    stream = io.BytesIO()
    Image.new("RGB", (40, 20)).save(stream, "JPEG", exif=exif)
    _, frame = decode(stream.getvalue(), 32)
    assert (frame.width, frame.height) == (20, 40)


def test_a_photo_with_a_long_header_is_decoded(make_image: MakeImage) -> None:
    photo = make_image("JPEG")
    long = photo[:2] + jpeg_segment(0xFE, bytes(65_000)) * 100 + photo[2:]
    assert read_header(long).width == 40
    assert decode(long, 32)[1].width == 40


@pytest.mark.parametrize(
    "data",
    [
        flat_png(8, 8, before=text_chunks(60_000), after=text_chunks(60_000)),
        flat_png(8, 8, before=png_chunk(b"prIv", b"") * 4_000, after=png_chunk(b"prIv", b"") * 4_000),
        jpeg_without_data(8, 8, before=jpeg_segment(0xE1, exif_with_large_values()) * 100),
    ],
    ids=["texts", "private chunks", "EXIF data"],
)
def test_a_decoder_gets_the_picture_alone(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[io.BytesIO] = []

    def opened(stream: io.BytesIO) -> Image.Image:
        given.append(stream)
        return Image.open(stream)

    for name in image.READERS:
        monkeypatch.setitem(image.READERS, name, opened)
    assert decode(data, 32)[1].width == 8
    assert len(given[0].getvalue()) < 200


def test_a_jpeg_of_too_many_scans_is_rejected_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "READERS", {})
    with pytest.raises(BadImageError, match="scans") as caught:
        decode(many_scans(4000, 3000, 2000), 32)
    assert caught.value.kind == "too_large"


def test_an_image_of_another_size_than_its_header_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(image.READERS, "PNG", lambda _: Image.new("RGB", (9, 8)))
    with pytest.raises(BadImageError) as caught:
        decode(flat_png(8, 8), 32)
    assert caught.value.kind == "broken"


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_picture_is_decoded(file_format: str) -> None:
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    stream = io.BytesIO()
    first.save(stream, file_format, save_all=True, append_images=[second])
    assert np.allclose(decode(stream.getvalue(), 32)[0][:, 16, 16], [1, 0, 0], atol=0.02)


@pytest.mark.parametrize("size", [(4032, 3024), (8160, 6120)], ids=["12 megapixels", "50 megapixels"])
def test_photos_of_phones_are_decoded(size: tuple[int, int]) -> None:
    assert decode(jpeg_without_data(*size), 288)[1].width == size[0]


def test_a_small_file_of_a_large_picture_does_not_take_much_memory() -> None:
    code = """
import io
from pathlib import Path
from PIL import Image
from bunriwiki.artifacts.image import decode
stream = io.BytesIO()
Image.new("P", (4000, 3000)).save(stream, "PNG", transparency=0)
decode(stream.getvalue(), 64)
[peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(peak)  # not ru_maxrss, which includes the parent's peak
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 300_000  # kilobytes; the picture has 12 megapixels of four bytes, and is copied once


def test_one_pixel_and_a_very_thin_photo(make_image: MakeImage) -> None:
    for size in ((1, 1), (3000, 1), (1, 3000)):
        assert decode(make_image("PNG", size), 64)[0].shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "unsupported"),
        (b"hello", "unsupported"),
        (b"http://127.0.0.1/photo.jpg", "unsupported"),
        (b"GIF89a" + bytes(20), "unsupported"),
        (b"\xff\xd8\xff", "broken"),
        (b"\x89PNG\r\n\x1a\n", "broken"),
    ],
)
def test_data_that_is_not_a_photo_is_rejected_by_its_header(data: bytes, kind: str) -> None:
    with pytest.raises(BadImageError) as caught:
        read_header(data)
    assert caught.value.kind == kind


def test_too_many_pixels_are_rejected_before_decoding() -> None:
    with pytest.raises(BadImageError, match="10001 x 5000") as caught:
        decode(flat_png(10_001, 5_000)[:64], 32)
    assert caught.value.kind == "too_large"


def test_an_incomplete_photo_is_broken_and_an_empty_one_unsupported(bottle: bytes) -> None:
    for length in range(0, len(bottle) - 2, 509):
        with pytest.raises(BadImageError) as caught:
            decode(bottle[:length], 64)
        assert caught.value.kind == ("broken" if length else "unsupported")


@given(position=st.integers(2, 5000), garbage=st.binary(min_size=1, max_size=64))
def test_garbage_in_a_photo_raises_no_other_error(position: int, garbage: bytes) -> None:
    stream = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    data[position : position + len(garbage)] = garbage
    with contextlib.suppress(BadImageError):
        decode(bytes(data), 64)
