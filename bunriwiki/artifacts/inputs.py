"""The inputs of the models, and the checks that they pass before a runner is called."""

from __future__ import annotations

from dataclasses import dataclass

from bunriwiki.artifacts import image
from bunriwiki.artifacts.answers import Failure

DEFAULT_CONFIDENCE = 0.25
DEFAULT_IOU = 0.5
THRESHOLDS = {"confidence": DEFAULT_CONFIDENCE, "iou": DEFAULT_IOU}
MAX_CHARACTERS = 10_000  # of a text


@dataclass(frozen=True, slots=True)
class Photo:
    """An encoded photo (JPEG, PNG or WebP), and the thresholds for its detections, 0..1."""

    data: bytes
    confidence: float = DEFAULT_CONFIDENCE
    iou: float = DEFAULT_IOU


def check_photo(photo: Photo) -> Failure | None:
    """Why no runner should decode `photo`; None if it may. Reads the start of the header only."""
    try:
        image.check(photo.data)
    except image.BadImageError as error:
        return Failure(kind=error.kind, message=str(error))
    return None


def check_text(text: str) -> Failure | None:
    """Why no runner should classify `text`; None if it may."""
    if len(text) > MAX_CHARACTERS:
        return Failure(
            kind="too_large",
            message=f"The text has {len(text)} characters; at most {MAX_CHARACTERS} are accepted. Shorten it.",
        )
    if not text.strip():
        return Failure(kind="invalid", message="The field `text` is empty. Send the text to classify.")
    return None
