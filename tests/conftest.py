"""Fixtures for all tests."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from PIL import Image

from bunriwiki.testing.paths import PHOTOS
from bunriwiki.web import tokens
from model_sync.sandbox import timeouts

# No deadline for an example: a busy machine would decide whether it is met.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


SLOW_FILE = re.compile(r"^pytestmark = \[?pytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are left out, a file of them is not even imported: its libraries cost each worker seconds."""
    left_out = "not slow" in config.option.markexpr and collection_path.suffix == ".py"
    return True if left_out and SLOW_FILE.search(collection_path.read_text(encoding="utf-8")) else None


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


@pytest.fixture
def short_token_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong token is answered soon."""
    monkeypatch.setattr(tokens, "DELAY_SECONDS", 0.01)


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
