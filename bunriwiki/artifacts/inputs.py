"""What goes into a runner, where it is more than a text."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_CONFIDENCE = 0.25
DEFAULT_IOU = 0.5
THRESHOLDS = {"confidence": DEFAULT_CONFIDENCE, "iou": DEFAULT_IOU}


@dataclass(frozen=True, slots=True)
class Photo:
    """An encoded photo and the thresholds, 0..1, to look at it with."""

    data: bytes
    confidence: float = DEFAULT_CONFIDENCE
    iou: float = DEFAULT_IOU
