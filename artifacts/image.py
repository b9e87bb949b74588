"""Photos: from encoded bytes to the square that a detector takes, and boxes back to pixels of the photo."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import open as open_image  # by name: ultralytics replaces `Image.open` in processes that import it

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 50_000_000
GREY = (114, 114, 114)  # the border that ultralytics trains with
EXIF_ORIENTATION = 0x0112
QUARTER_TURNS = {5, 6, 7, 8}  # EXIF orientations that swap width and height

# The ceiling is ours (MAX_PIXELS), checked before anything is decoded; Pillow's own would only warn.
Image.MAX_IMAGE_PIXELS = None

Floats = npt.NDArray[np.float32]


class BadImageError(ValueError):
    """The bytes are no photo that can be answered. The message tells the client what to do."""

    def __init__(self, kind: Literal["broken", "unsupported", "too_large"], message: str) -> None:
        super().__init__(message)
        self.kind: Literal["broken", "unsupported", "too_large"] = kind


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a photo of `width` x `height` pixels lies in the square: scaled by `scale`, moved by `left` and `top`."""

    width: int
    height: int
    scale: float
    left: int
    top: int

    @classmethod
    def of(cls, width: int, height: int, size: int) -> Frame:
        """The largest centred frame of a `width` x `height` photo in a square of `size` pixels a side."""
        scale = min(size / width, size / height)
        left = (size - max(1, round(width * scale))) // 2
        top = (size - max(1, round(height * scale))) // 2
        return cls(width, height, scale, left, top)

    def to_pixels(self, boxes: Floats) -> Floats:
        """Boxes [n, 4] (x1, y1, x2, y2) of the square as pixels of the photo, cut at its borders."""
        offset = np.array([self.left, self.top, self.left, self.top], dtype=np.float32)
        limit = np.array([self.width, self.height, self.width, self.height], dtype=np.float32)
        moved: Floats = (boxes - offset) / np.float32(self.scale)
        return moved.clip(0, limit)


def check(data: bytes) -> None:
    """Read the header only. Raises BadImageError for what no runner should be asked to decode."""
    _open(data)


def decode(data: bytes, size: int) -> tuple[Floats, Frame]:
    """Decode a photo into the square that a detector takes.

    Gives float32 [3, size, size], RGB in 0..1, upright, letterboxed on grey; and its frame. A JPEG is decoded at the
    smallest scale (1, 1/2, 1/4, 1/8) that still covers the square, which spares most of the work on a phone's photo.
    Transparent pixels are laid on white. Raises BadImageError.
    """
    image = _open(data)
    width, height = image.size
    orientation = _orientation(image)
    if orientation in QUARTER_TURNS:
        width, height = height, width
    frame = Frame.of(width, height, size)
    try:
        image.draft("RGB", (size, size))
        upright = ImageOps.exif_transpose(_to_rgb(image)) if orientation != 1 else _to_rgb(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadImageError("broken", "The image is damaged or cut short. Send it again, whole.") from error
    inner = (max(1, round(width * frame.scale)), max(1, round(height * frame.scale)))
    if upright.size != inner:
        upright = upright.resize(inner, Image.Resampling.BILINEAR)
    square = Image.new("RGB", (size, size), GREY)
    square.paste(upright, (frame.left, frame.top))
    tensor = np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    return np.ascontiguousarray(tensor), frame


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = open_image(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadImageError("broken", "The image's header is damaged. Send it again, whole.") from error
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
        return BadImageError("broken", "The image's header is damaged. Send it again, whole.")
    return BadImageError("unsupported", "The bytes are no JPEG, PNG or WebP image. Send one of these formats.")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # EXIF is an open-ended format of other people's bytes: a photo without it is still a photo
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it to white
        grey = np.asarray(image, dtype=np.float32) / 257
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8), "L").convert("RGB")
    if image.has_transparency_data:
        upper = image.convert("RGBA")
        white = Image.new("RGBA", upper.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, upper).convert("RGB")
    return image.convert("RGB")
