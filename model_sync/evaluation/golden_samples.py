"""Reads the golden samples of a version. Its folder is untrusted: paths and sizes are checked before a file is read."""

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

MAX_BYTES = 4 * 2**20  # of the file with the samples, which has some kilobytes
MAX_PHOTO_BYTES = 10 * 2**20  # the limit of the service

Golden = tuple[Any, Callable[[Any], str | None]]
"""An input, and a function that says how an answer to it differs from the original's; None if it does not."""


def golden_samples(model: str, folder: Path) -> Iterator[Golden]:
    """The samples of the version in `folder`, one at a time. Raises RejectedError."""
    _require_file(folder, GOLDEN, MAX_BYTES)
    try:
        if model == "yolo":
            for photo in read_golden_photos(folder):
                if len(photo.detections) > MAX_BOXES:
                    raise RejectedError(f"a golden sample has {len(photo.detections)} boxes; at most {MAX_BOXES} are allowed")
                yield Photo(data=_read(folder, photo.image), confidence=photo.confidence), photo.differs
        else:
            for text in read_golden_texts(folder):
                yield text.text, text.differs
    except DamagedArtifactError as error:
        raise RejectedError(str(error)) from error


def _read(folder: Path, name: str) -> bytes:
    _require_file(folder, name, MAX_PHOTO_BYTES)
    return (folder / name).read_bytes()


def _require_file(folder: Path, name: str, max_bytes: int) -> None:
    """Raises RejectedError unless `name` is a file in `folder`, of at most `max_bytes`."""
    try:
        path = (folder / name).resolve(strict=True)
        found = path.stat()
    except (OSError, ValueError, RuntimeError):  # missing, too long, with a null character, or a loop of links
        raise RejectedError(f"the golden sample {name[:200]!r} does not exist") from None
    if not path.is_relative_to(folder.resolve()) or not stat.S_ISREG(found.st_mode):
        raise RejectedError(f"the golden sample {name[:200]!r} is not a file in the version's folder")
    if found.st_size > max_bytes:
        raise RejectedError(f"the golden sample {name[:200]!r} has more than {max_bytes >> 20} MB")
