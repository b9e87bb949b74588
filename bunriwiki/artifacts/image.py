"""Converts encoded photos to the square input of a detector, and boxes back to pixels of the photo."""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.Image import open as open_image  # by name: ultralytics replaces `Image.open` in processes that import it

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 50_000_000
GREY = (114, 114, 114)  # the border that ultralytics trains with
EXIF_ORIENTATION = 0x0112
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
HEADER_BYTES = 2**16  # that `check` reads: a header of many tiny segments takes long to read
LARGE_PIXELS = 8_000_000
_one_large_picture = threading.Lock()

# `_open` checks MAX_PIXELS before anything is decoded; Pillow's own limit would only warn.
Image.MAX_IMAGE_PIXELS = None

Floats = npt.NDArray[np.float32]


class BadImageError(ValueError):
    """The bytes are not a photo that a detector can process. The message says what is wrong and what to do."""

    def __init__(self, kind: Literal["broken", "unsupported", "too_large"], message: str) -> None:
        super().__init__(message)
        self.kind: Literal["broken", "unsupported", "too_large"] = kind


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


def check(data: bytes) -> None:
    """Check the start of the header only, which is cheap for any content.

    Raises BadImageError for data that no runner should decode. A photo with a longer header passes: `decode` checks the rest.
    """
    try:
        _open(data[:HEADER_BYTES])
    except BadImageError as error:
        if error.kind != "broken" or len(data) <= HEADER_BYTES:
            raise


def decode(data: bytes, size: int) -> tuple[Floats, Frame]:
    """Decode a photo into the square input of a detector.

    Returns float32 [3, size, size], RGB in 0..1, upright, letterboxed on grey, and its frame. A JPEG is decoded at the
    smallest scale (1, 1/2, 1/4, 1/8) that still covers the square, which saves most of the work for a phone's photo. Large
    pictures of other formats, which must be decoded whole, are decoded one at a time. Transparent pixels become white. Raises
    BadImageError.
    """
    image = _open(data)
    try:
        orientation = _orientation(image)
        width, height = image.size[::-1] if orientation in QUARTER_TURNS else image.size
        frame = Frame.of(width, height, size)
        inner = (max(1, round(width * frame.scale)), max(1, round(height * frame.scale)))
        with _one_large_picture if _is_decoded_whole(image) else contextlib.nullcontext():
            picture = _shrunk(image, inner[::-1] if orientation in QUARTER_TURNS else inner)
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


def _open(data: bytes) -> Image.Image:
    try:
        image = open_image(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Exception as error:  # see decode
        raise BadImageError("broken", "The header of the image is damaged. Send the whole file again.") from error
    if image.width * image.height > MAX_PIXELS:
        raise BadImageError(
            "too_large",
            f"The image has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels "
            "are accepted. Send a smaller one.",
        )
    return image


def _unidentified(data: bytes) -> BadImageError:
    magic = (b"\xff\xd8", b"\x89PNG", b"RIFF")
    if data.startswith(magic):
        return BadImageError("broken", "The header of the image is damaged. Send the whole file again.")
    return BadImageError("unsupported", "The data is not a JPEG, PNG or WebP image. Send one of these formats.")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # Pillow raises many types of exceptions; a photo with malformed EXIF data is still a photo
        return 1


def _is_decoded_whole(image: Image.Image) -> bool:
    """Whether the picture is large and must be decoded as a whole."""
    in_parts = image.format == "JPEG" and not image.info.get("progressive")
    return not in_parts and image.width * image.height > LARGE_PIXELS


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
