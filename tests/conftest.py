"""Fixtures for all tests."""

from __future__ import annotations

import io
from collections.abc import Callable

import hypothesis
import pytest
from PIL import Image

from bunriwiki.testing.paths import PHOTOS

# No deadline for an example: a busy machine would decide whether it is met.
hypothesis.settings.register_profile("patient")
hypothesis.settings.load_profile("patient")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def bottle() -> bytes:
    """A photo of a plastic bottle, as JPEG."""
    return (PHOTOS / "plastic_bottle.jpg").read_bytes()


@pytest.fixture
def make_image() -> Callable[..., bytes]:
    """Encodes a plain image: `make_image("PNG", (40, 30), mode="RGB", colour=(9, 9, 9))`."""

    def make(
        file_format: str = "JPEG",
        size: tuple[int, int] = (40, 30),
        *,
        mode: str = "RGB",
        colour: object = 128,
        orientation: int | None = None,
    ) -> bytes:
        image = Image.new(mode, size, colour)  # type: ignore[arg-type]
        exif = Image.Exif()
        if orientation is not None:
            exif[0x0112] = orientation
        stream = io.BytesIO()
        image.save(stream, file_format, exif=exif)
        return stream.getvalue()

    return make
