"""The golden samples that a version brings, as inputs to ask it; its folder is other people's, and so are the samples."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.golden import GOLDEN, read_golden_photos, read_golden_texts
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import DamagedArtifactError
from model_sync.errors import RejectedError
from model_sync.evaluation.checks import MAX_BOXES

MAX_BYTES = 4 * 2**20  # of the samples' file, which has some kilobytes
MAX_PHOTO_BYTES = 10 * 2**20  # as much as the service takes

Golden = tuple[Any, Callable[[Any], str | None]]  # an input, and what says how an answer to it differs from the original's


def golden_samples(model: str, folder: Path) -> Iterator[Golden]:
    """The samples of the version in `folder`, one at a time. Raises RejectedError."""
    _size(folder, GOLDEN, MAX_BYTES)
    try:
        if model == "yolo":
            for photo in read_golden_photos(folder):
                if len(photo.detections) > MAX_BOXES:
                    raise RejectedError(f"a golden sample has {len(photo.detections)} boxes; at most {MAX_BOXES} are looked at")
                yield Photo(data=_read(folder, photo.image), confidence=photo.confidence), photo.differs
        else:
            for text in read_golden_texts(folder):
                yield text.text, text.differs
    except DamagedArtifactError as error:
        raise RejectedError(str(error)) from error


def _read(folder: Path, name: str) -> bytes:
    _size(folder, name, MAX_PHOTO_BYTES)
    return (folder / name).read_bytes()


def _size(folder: Path, name: str, most: int) -> None:
    """Raises RejectedError unless `name` is a file in the folder, of at most so many bytes."""
    try:
        path = (folder / name).resolve(strict=True)
        found = path.stat()
    except (OSError, ValueError, RuntimeError):  # too long, with a null character, a loop of links
        raise RejectedError(f"there is no golden sample {name[:200]!r}") from None
    if not path.is_relative_to(folder.resolve()) or not stat.S_ISREG(found.st_mode):
        raise RejectedError(f"the golden sample {name[:200]!r} is no file of the version")
    if found.st_size > most:
        raise RejectedError(f"the golden sample {name[:200]!r} has more than {most >> 20} MB")
