from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from PIL import Image

from bunriwiki.artifacts.image_files import jpeg
from bunriwiki.artifacts.image_files.header import BadImageError
from bunriwiki.artifacts.image_files.jpeg import read_jpeg, reduce_jpeg
from bunriwiki.testing.hostile_images import jpeg_segment, jpeg_without_data, many_scans


def encoded(mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.radial_gradient("L").convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def markers(data: bytes) -> list[int]:
    """The markers of the segments up to the first scan."""
    found, place = [], 2
    while 0xDA not in found:
        found.append(data[place + 1])
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return found


@pytest.mark.parametrize(
    ("options", "whole"),
    [({}, False), ({"subsampling": 0}, False), ({"progressive": True}, True), ({"restart_marker_blocks": 1}, False)],
)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_jpeg_must_be_decoded_whole(mode: str, options: dict[str, Any], whole: bool) -> None:
    header = read_jpeg(encoded(mode, **options))
    assert (header.format, header.width, header.height, header.whole) == ("JPEG", 256, 256, whole)


def test_a_jpeg_with_a_scan_per_channel_must_be_decoded_whole() -> None:
    scans = [jpeg_segment(0xDA, bytes([1, channel, 0, 0, 63, 0])) for channel in (1, 2, 3)]
    assert read_jpeg(jpeg_without_data(40, 30, scans=scans)).whole
    assert not read_jpeg(jpeg_without_data(40, 30)).whole


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_only_what_the_picture_depends_on_is_left(mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(mode, exif=exif, icc_profile=bytes(200_000), comment=b"a comment", xmp=b"<x/>", optimize=True)
    reduced = reduce_jpeg(data)
    assert set(markers(reduced.data)) == {0xE0 if mode != "CMYK" else 0xEE, 0xDB, 0xC0, 0xC4, 0xDA}
    assert reduced.orientation == 6
    assert Image.open(io.BytesIO(reduced.data)).tobytes() == Image.open(io.BytesIO(data)).tobytes()


def test_restart_intervals_are_kept() -> None:
    data = encoded(restart_marker_blocks=4)
    assert 0xDD in markers(reduce_jpeg(data).data)
    assert Image.open(io.BytesIO(reduce_jpeg(data).data)).tobytes() == Image.open(io.BytesIO(data)).tobytes()


@pytest.mark.parametrize("frame", sorted({*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}))
def test_a_rare_kind_is_not_supported(frame: int) -> None:
    with pytest.raises(BadImageError, match="baseline") as caught:
        read_jpeg(jpeg_without_data(40, 30, frame=frame))
    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize(("precision", "components"), [(12, 3), (8, 2), (8, 5)])
def test_other_channels_are_not_supported(precision: int, components: int) -> None:
    frame = jpeg_segment(0xC0, struct.pack(">BHHB", precision, 30, 40, components) + bytes(3 * components))
    with pytest.raises(BadImageError, match=f"{components} channels of {precision} bits") as caught:
        read_jpeg(b"\xff\xd8" + frame + jpeg_segment(0xDA, bytes([components])))
    assert caught.value.kind == "unsupported"


FRAME = jpeg_segment(0xC0, struct.pack(">BHHB", 8, 30, 40, 1) + bytes(3))
SCAN = jpeg_segment(0xDA, b"\1")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8" + FRAME,
        b"\xff\xd8" + SCAN,
        b"\xff\xd8" + FRAME + FRAME + SCAN,
        b"\xff\xd8" + jpeg_segment(0xC0, bytes(5)) + SCAN,
        b"\xff\xd8\xff\xd8" + FRAME + SCAN,
        b"\xff\xd8" + FRAME + b"\xff\xd9",
        b"\xff\xd8\xff\xe0\0\1" + FRAME + SCAN,
        b"\xff\xd8" + FRAME + b"\xff\xda\0\x09",
        b"\xff\xd8" + FRAME + b"\xff\xda\0",
        b"\xff\xd8" + bytes(jpeg.MAX_GAP) + FRAME + SCAN,
    ],
)
def test_a_header_that_is_damaged_or_cut_is_broken(data: bytes) -> None:
    with pytest.raises(BadImageError) as caught:
        read_jpeg(data)
    assert caught.value.kind == "broken"


@pytest.mark.parametrize("filler", [b"\xff", b"\0", b"\xff\0", b"\xff\xd0", b"\xff\x01"])
def test_fillers_and_markers_alone_are_skipped(filler: bytes) -> None:
    data = b"\xff\xd8" + filler * 20 + FRAME + filler * 20 + SCAN
    assert read_jpeg(data).width == 40
    assert reduce_jpeg(data).data == b"\xff\xd8" + FRAME + SCAN


def test_a_scan_without_content_is_no_single_scan() -> None:
    assert read_jpeg(b"\xff\xd8" + FRAME + jpeg_segment(0xDA)).whole


def test_long_headers_are_read_and_many_segments_are_rejected() -> None:
    long = jpeg_segment(0xE1, bytes(65_000))
    data = jpeg_without_data(40, 30, before=long * 150)
    assert read_jpeg(data).width == 40
    assert len(reduce_jpeg(data).data) < 200
    few = jpeg_segment(0xFE) * (jpeg.MAX_SEGMENTS - 5)  # besides the tables, the frame and the scan
    assert read_jpeg(jpeg_without_data(40, 30, before=few)).width == 40
    with pytest.raises(BadImageError, match=f"more than {jpeg.MAX_SEGMENTS} segments") as caught:
        read_jpeg(jpeg_without_data(40, 30, before=few + jpeg_segment(0xFE)))
    assert caught.value.kind == "too_large"


def test_many_scans_are_rejected() -> None:
    reduce_jpeg(many_scans(40, 30, jpeg.MAX_SCANS))
    with pytest.raises(BadImageError, match=f"{jpeg.MAX_SCANS + 1} scans; at most {jpeg.MAX_SCANS}") as caught:
        reduce_jpeg(many_scans(40, 30, jpeg.MAX_SCANS + 1))
    assert caught.value.kind == "too_large"


def test_the_bytes_of_a_scan_marker_in_one_scan_or_in_a_preview_are_no_scans() -> None:
    reduce_jpeg(jpeg_without_data(40, 30) + b"\xff\xda" * 99)
    reduce_jpeg(many_scans(40, 30, 2).replace(b"\xff\xdb", jpeg_segment(0xE1, b"\xff\xda" * 99) + b"\xff\xdb", 1))


@pytest.mark.parametrize("marker", [0xC4, 0xDB])
def test_tables_that_no_decoder_needs_are_broken(marker: int) -> None:
    reduce_jpeg(jpeg_without_data(40, 30, before=jpeg_segment(marker, bytes(jpeg.MAX_TABLE_BYTES))))
    with pytest.raises(BadImageError) as caught:
        reduce_jpeg(jpeg_without_data(40, 30, before=jpeg_segment(marker, bytes(jpeg.MAX_TABLE_BYTES + 1))))
    assert caught.value.kind == "broken"
