"""An image file of any accepted format: its header, and the parts that the picture depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bunriwiki.artifacts.image_files import jpeg, png
from bunriwiki.artifacts.image_files.header import BadImageError, Header, Reduced
from bunriwiki.artifacts.image_files.jpeg import read_jpeg, reduce_jpeg
from bunriwiki.artifacts.image_files.png import read_png, reduce_png
from bunriwiki.artifacts.image_files.webp import read_webp, reduce_webp

ResultT = TypeVar("ResultT")


def read_header(data: bytes) -> Header:
    """The header of an image. Cheap for any content: reads a few bytes of at most 512 places.

    Raises BadImageError for data that no runner should decode.
    """
    header = _by_format(data, read_jpeg, read_png, read_webp)
    header.check()
    return header


def reduce_image(data: bytes) -> Reduced:
    """An image without the parts that the picture does not depend on. Its time and memory are bounded by the size of `data`.

    Raises BadImageError for an image that must not be decoded.
    """
    read_header(data)
    return _by_format(data, reduce_jpeg, reduce_png, reduce_webp)


def _by_format(
    data: bytes,
    of_jpeg: Callable[[bytes], ResultT],
    of_png: Callable[[bytes], ResultT],
    of_webp: Callable[[bytes], ResultT],
) -> ResultT:
    if data.startswith(jpeg.SIGNATURE):
        return of_jpeg(data)
    if data.startswith(png.SIGNATURE[:4]):
        return of_png(data)
    if data.startswith(b"RIFF"):
        return of_webp(data)
    raise BadImageError("unsupported", "The data is not a JPEG, PNG or WebP image. Send one of these formats.")
