"""What a header says of an image, and the limits that it must keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_WHOLE_PIXELS = 4096 * 3072  # of an image that is decoded whole: the picture of a camera of 12 megapixels
SCALED_PIXELS = 4  # that cost as much as one pixel of an image that is decoded whole
MAX_SCALED_PIXELS = SCALED_PIXELS * MAX_WHOLE_PIXELS
MAX_SIDE = 65_535  # the largest of a JPEG; a narrow image of millions of lines costs memory for each line
MIN_COST = 1_000_000  # of any image, as each costs a forward pass
MIN_LOSSLESS_WEBP_COST = 8_000_000  # one of 300 KB may have 65,536 sets of codes, which take 0.6 s and 370 MB

Format = Literal["JPEG", "PNG", "WEBP"]
Kind = Literal["broken", "unsupported", "too_large"]


class BadImageError(ValueError):
    """The bytes are not a photo that a detector can process. The message says what is wrong and what to do."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind


def broken_header() -> BadImageError:
    return BadImageError("broken", "The header of the image is damaged. Send the whole file again.")


@dataclass(frozen=True, slots=True)
class Header:
    """The format and the size of an image in pixels, as it is stored.

    `whole`: it must be decoded whole, at its full size. A baseline JPEG is scaled while it is decoded, which saves most of the
    work. `min_cost` is what it costs however few pixels it has.
    """

    format: Format
    width: int
    height: int
    whole: bool
    min_cost: int = MIN_COST

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def cost(self) -> int:
        """What it costs to decode the image and to detect objects in it: the pixels of an image that is decoded whole."""
        return max(self.min_cost, self.pixels if self.whole else self.pixels // SCALED_PIXELS)

    def check(self) -> None:
        """Raises BadImageError for an image that must not be decoded."""
        if not self.width or not self.height:
            raise broken_header()
        if max(self.width, self.height) > MAX_SIDE:
            raise BadImageError(
                "too_large",
                f"The image has {self.width} x {self.height} pixels; at most {MAX_SIDE} in each direction are accepted. "
                "Send a smaller one.",
            )
        if self.pixels > (MAX_WHOLE_PIXELS if self.whole else MAX_SCALED_PIXELS):
            raise BadImageError(
                "too_large",
                f"The image has {self.width} x {self.height} pixels. A baseline JPEG may have "
                f"{MAX_SCALED_PIXELS // 1_000_000} megapixels, and a progressive JPEG, a PNG or a WebP "
                f"{MAX_WHOLE_PIXELS // 1_000_000}. Send a smaller one{', or a baseline JPEG' if self.whole else ''}.",
            )


@dataclass(frozen=True, slots=True)
class Reduced:
    """A file without the parts that the picture does not depend on, and the EXIF orientation (1 to 8) that it states."""

    header: Header
    data: bytes
    orientation: int
