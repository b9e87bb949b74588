"""The reference set: inputs with the right answers, labelled by people, to compare the quality of two versions.

It is in `reference.jsonl` beside the manifest, one JSON object per line. Golden samples have the answers of the original model,
these have the right ones. No version may be trained on them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from bunriwiki.artifacts.answers import Box
from bunriwiki.artifacts.samples import Sample, read_samples, write_samples

REFERENCE = "reference.jsonl"
PHOTOS = "reference"  # the folder of the photos


class ReferenceText(Sample):
    """A text and its class."""

    text: str
    label: str


class ReferenceObject(Sample):
    """An object in a photo; `box` is x1, y1, x2, y2 in pixels of the upright photo."""

    label: str
    box: Box


class ReferencePhoto(Sample):
    """A photo, by its path in the version's folder, and all objects in it.

    The quality of each `kind` of photos is judged apart, such as `close-up` and `context`.
    """

    image: str
    kind: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]{0,30}$")
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
    """Copy the reference set from the folder `source` to `folder`. Raises OSError."""
    shutil.copyfile(source / REFERENCE, folder / REFERENCE)
    if (source / PHOTOS).is_dir():
        shutil.copytree(source / PHOTOS, folder / PHOTOS)
