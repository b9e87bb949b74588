"""The reference set: inputs with the right answers, as people labelled them, to compare one version's quality with another's.

It lies in `reference.jsonl` beside the manifest, a JSON object a line. Unlike golden samples, which say what the original model
answered, these say what is true. No version may have been trained on them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from bunriwiki.artifacts.answers import Box
from bunriwiki.artifacts.samples import Sample, read_samples, write_samples

REFERENCE = "reference.jsonl"
PHOTOS = "reference"  # where the photos lie


class ReferenceText(Sample):
    """A text and its class."""

    text: str
    label: str


class ReferenceObject(Sample):
    """One object in a photo; `box` is x1, y1, x2, y2 in pixels of the upright photo."""

    label: str
    box: Box


class ReferencePhoto(Sample):
    """A photo, as a path in the version's folder, and all that is in it."""

    image: str
    objects: tuple[ReferenceObject, ...]


def read_reference_texts(folder: Path) -> list[ReferenceText]:
    """The reference texts of a version. Raises DamagedArtifactError."""
    return read_samples(folder / REFERENCE, ReferenceText)


def read_reference_photos(folder: Path) -> list[ReferencePhoto]:
    """The reference photos of a version. Raises DamagedArtifactError."""
    return read_samples(folder / REFERENCE, ReferencePhoto)


def write_reference(folder: Path, samples: Iterable[ReferenceText | ReferencePhoto]) -> None:
    """Write `reference.jsonl` into `folder`."""
    write_samples(folder / REFERENCE, samples)


def copy_reference(source: Path, folder: Path) -> None:
    """Put the reference set that lies in `source`, another version or any folder, into `folder`."""
    shutil.copyfile(source / REFERENCE, folder / REFERENCE)
    if (source / PHOTOS).is_dir():
        shutil.copytree(source / PHOTOS, folder / PHOTOS)
