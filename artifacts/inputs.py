"""What goes into a runner, where it is more than a text."""

from __future__ import annotations

from pydantic import BaseModel, Field

DEFAULT_CONFIDENCE = 0.25
DEFAULT_IOU = 0.5
THRESHOLDS = {"confidence": DEFAULT_CONFIDENCE, "iou": DEFAULT_IOU}


class Photo(BaseModel):
    """An encoded photo and the thresholds to look at it with."""

    data: bytes
    confidence: float = Field(default=DEFAULT_CONFIDENCE, ge=0, le=1)
    iou: float = Field(default=DEFAULT_IOU, ge=0, le=1)
