"""Converts encoded photos to the square input of a detector, and boxes back to pixels of the photo."""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from bunriwiki.artifacts.image_files.header import BadImageError, Header
from bunriwiki.artifacts.image_files.reading import reduce_image

# By format, as in `Header`. Not `Image.open`: ultralytics replaces it in processes that import it.
READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
GREY = (114, 114, 114)  # the border that ultralytics trains with
UPRIGHT = {  # by EXIF orientation: the operation that turns the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = {5, 6, 7, 8}  # the orientations that swap width and height
LARGE_COST = 8_000_000
_one_large_picture = threading.Lock()

# `reduce_image` checks the size before anything is decoded; Pillow's own limit would only warn.
Image.MAX_IMAGE_PIXELS = None

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Frame:
    """The place of a photo of `width` x `height` pixels in the square: scaled by `scale`, moved by `left` and `top` pixels."""

    width: int
    height: int
    scale: float
    left: int
    top: int

    @classmethod
    def of(cls, width: int, height: int, size: int) -> Frame:
        """The largest centred frame of a `width` x `height` photo in a square with sides of `size` pixels."""
        scale = min(size / width, size / height)
        left = (size - max(1, round(width * scale))) // 2
        top = (size - max(1, round(height * scale))) // 2
        return cls(width, height, scale, left, top)

    def to_pixels(self, boxes: Floats) -> Floats:
        """Convert boxes [n, 4] (x1, y1, x2, y2) in the square to pixels of the photo, cut at its borders."""
        offset = np.array([self.left, self.top, self.left, self.top], dtype=np.float32)
        limit = np.array([self.width, self.height, self.width, self.height], dtype=np.float32)
        moved: Floats = (boxes - offset) / np.float32(self.scale)
        return moved.clip(0, limit)


def decode(data: bytes, size: int) -> tuple[Floats, Frame]:
    """Decode a photo into the square input of a detector.

    Returns float32 [3, size, size], RGB in 0..1, upright, letterboxed on grey, and its frame. A baseline JPEG is decoded at the
    smallest scale (1, 1/2, 1/4, 1/8) that still covers the square, which saves most of the work for a phone's photo. Large
    pictures that must be decoded whole, and WebP that may be lossless, are decoded one at a time. Of an animation the first
    picture is decoded. Transparent pixels become white. The decoder gets the reduced file, so metadata cost it nothing. Raises
    BadImageError.
    """
    reduced = reduce_image(data)
    header, orientation = reduced.header, reduced.orientation
    width, height = (header.height, header.width) if orientation in QUARTER_TURNS else (header.width, header.height)
    frame = Frame.of(width, height, size)
    inner = (max(1, round(width * frame.scale)), max(1, round(height * frame.scale)))
    large = header.whole and header.cost >= LARGE_COST
    try:
        with _one_large_picture if large else contextlib.nullcontext():
            picture = _shrunk(_open(reduced.data, header), inner[::-1] if orientation in QUARTER_TURNS else inner)
        upright = picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture
    except Exception as error:  # Pillow raises many types of exceptions for malformed data
        raise BadImageError("broken", "The image is damaged or incomplete. Send the whole file again.") from error
    square = Image.new("RGB", (size, size), GREY)
    square.paste(upright, (frame.left, frame.top))
    tensor = np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    return np.ascontiguousarray(tensor), frame


def brightness(square: Floats, frame: Frame) -> float:
    """The mean of the green channel of a decoded photo, 0..1: of every eighth pixel in both directions, without the border."""
    rows, columns = (slice(border, square.shape[1] - border, 8) for border in (frame.top, frame.left))
    return float(square[1, rows, columns].mean())


def _open(data: bytes, header: Header) -> Image.Image:
    image = READERS[header.format](io.BytesIO(data))
    if image.size != (header.width, header.height):
        raise ValueError(f"the decoder found {image.size}, the header has {header.width} x {header.height} pixels")
    return image


def _shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` decoded and scaled to `size`, as RGB on white. Transparency is removed after scaling, when it is cheap."""
    image.draft("RGB", size)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip to white
        image = image.convert("F").resize(size, Image.Resampling.BILINEAR).point(lambda grey: grey / 257)
        return image.convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    upper = image.convert("RGBA").resize(size, Image.Resampling.BILINEAR)
    white = Image.new("RGBA", size, (255, 255, 255, 255))
    return Image.alpha_composite(white, upper).convert("RGB")
