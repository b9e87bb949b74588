"""The inputs of the models, and what they cost, which is known before a runner is called."""

from __future__ import annotations

from dataclasses import dataclass

from bunriwiki.artifacts.answers import Failure
from bunriwiki.artifacts.image_files.header import BadImageError
from bunriwiki.artifacts.image_files.reading import read_header

DEFAULT_CONFIDENCE = 0.25  # chosen on photos in context: training/README.md
DEFAULT_IOU = 0.5
THRESHOLDS = {"confidence": DEFAULT_CONFIDENCE, "iou": DEFAULT_IOU}
MAX_CHARACTERS = 10_000  # of a text


@dataclass(frozen=True, slots=True)
class Photo:
    """An encoded photo (JPEG, PNG or WebP), and the thresholds for its detections, 0..1."""

    data: bytes
    confidence: float = DEFAULT_CONFIDENCE
    iou: float = DEFAULT_IOU


def photo_cost(photo: Photo) -> int | Failure:
    """The pixels that `photo` costs (`Header.cost`), or why no runner should decode it. Reads the header only."""
    try:
        return read_header(photo.data).cost
    except BadImageError as error:
        return Failure(kind=error.kind, message=str(error))


def text_cost(text: str) -> int | Failure:
    """1: all texts cost about the same, as models read their beginning. Or why no runner should classify `text`."""
    if len(text) > MAX_CHARACTERS:
        return Failure(
            kind="too_large",
            message=f"The text has {len(text)} characters; at most {MAX_CHARACTERS} are accepted. Shorten it.",
        )
    if not text.strip():
        return Failure(kind="invalid", message="The field `text` is empty. Send the text to classify.")
    return 1
