"""What several of these tests use."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import model_sync.importing.compilers.torchvision_ops  # noqa: F401  (before transformers: it makes torchvision importable)
from training.photos import LabelledPhoto

RED = (0, 0, 220)  # BGR


@pytest.fixture
def can(tmp_path: Path) -> LabelledPhoto:
    """A red disc on a light background, with its box."""
    rng = np.random.default_rng(1)
    image = rng.integers(225, 245, (240, 240, 3)).astype(np.uint8)
    cv2.circle(image, (120, 120), 50, RED, cv2.FILLED)
    path = tmp_path / "taco-ccby-b01-s0007-0007.png"
    cv2.imwrite(str(path), image)
    return LabelledPhoto(path, (2,), np.array([[0.5, 0.5, 120 / 240, 120 / 240]]))
