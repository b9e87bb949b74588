"""Smaller reference sets, for tests of the way that a version takes and not of its quality."""

from __future__ import annotations

import shutil
from pathlib import Path

from bunriwiki.artifacts.reference import PHOTOS, read_reference_photos, read_reference_texts, write_reference
from bunriwiki.testing.paths import MODELS


def small_reference_sets(folder: Path, every: int = 4) -> Path:
    """Write every n-th sample of the bundled reference sets to `folder`."""
    for model in ("kcbert", "sentiment"):
        (folder / model).mkdir(parents=True)
        write_reference(folder / model, read_reference_texts(MODELS / model)[::every])
    samples = read_reference_photos(MODELS / "yolo")[::every]
    (folder / "yolo" / PHOTOS).mkdir(parents=True)
    for sample in samples:
        shutil.copyfile(MODELS / "yolo" / sample.image, folder / "yolo" / sample.image)
    write_reference(folder / "yolo", samples)
    return folder
