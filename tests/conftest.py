"""Fixtures for all tests."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import hypothesis
import pytest
from PIL import Image

from bunriwiki.testing.paths import PHOTOS
from model_sync.sandbox import timeouts

# No deadline for an example: a busy machine would decide whether it is met.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, it is not the cause of a timeout."""
    monkeypatch.setattr(timeouts, "MAX_WAITED", math.inf)


@pytest.fixture
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However quiet the machine is, it may be the cause of a timeout."""
    monkeypatch.setattr(timeouts, "MAX_WAITED", -1.0)


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
