"""Photos: from encoded bytes to the square that a detector takes, and boxes back to pixels of the photo."""

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
UPRIGHT = {  # what has to be done to a picture that is stored with an EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = {5, 6, 7, 8}  # the orientations that swap width and height
HEADER_BYTES = 2**16  # what a check looks at: a header of many tiny segments takes long to read
LARGE_PIXELS = 8_000_000
_one_large_picture = threading.Lock()

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
    """Look at the start of the header only, which costs little whatever is in it.

    Raises BadImageError for what no runner should be asked to decode. A photo whose header is longer is let through:
    `decode` has the last word.
    """
    try:
        _open(data[:HEADER_BYTES])
    except BadImageError as error:
        if error.kind != "broken" or len(data) <= HEADER_BYTES:
            raise


def decode(data: bytes, size: int) -> tuple[Floats, Frame]:
    """Decode a photo into the square that a detector takes.

    Gives float32 [3, size, size], RGB in 0..1, upright, letterboxed on grey; and its frame. A JPEG is decoded at the
    smallest scale (1, 1/2, 1/4, 1/8) that still covers the square, which spares most of the work on a phone's photo.
    Of large pictures of other kinds, which have to be decoded whole, one is decoded at a time. Transparent pixels are
    laid on white. Raises BadImageError.
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
    except Exception as error:  # Pillow lets exceptions of many kinds out of other people's bytes
        raise BadImageError("broken", "The image is damaged or cut short. Send it again, whole.") from error
    square = Image.new("RGB", (size, size), GREY)
    square.paste(upright, (frame.left, frame.top))
    tensor = np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    return np.ascontiguousarray(tensor), frame


def _open(data: bytes) -> Image.Image:
    try:
        image = open_image(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Exception as error:  # see decode
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


def _is_decoded_whole(image: Image.Image) -> bool:
    """Whether the whole picture has to lie in memory, and is large."""
    in_parts = image.format == "JPEG" and not image.info.get("progressive")
    return not in_parts and image.width * image.height > LARGE_PIXELS


def _shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` decoded and scaled to `size`, as RGB on white. It is scaled first, and laid on white when it is small."""
    image.draft("RGB", size)
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it to white
        image = image.convert("F").resize(size, Image.Resampling.BILINEAR).point(lambda grey: grey / 257)
        return image.convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    upper = image.convert("RGBA").resize(size, Image.Resampling.BILINEAR)
    white = Image.new("RGBA", size, (255, 255, 255, 255))
    return Image.alpha_composite(white, upper).convert("RGB")
