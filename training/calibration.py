"""Calibrates a detector: afterwards, the score of a photo's surest box is the probability that the box is right.

Platt scaling (1999): the logits of all classes are multiplied by one number, and another is added. Both go into the last
convolutions of the head, so that the served form costs nothing more. The order of boxes, and so average precision, stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from ultralytics.utils.nms import TorchNMS
from ultralytics.utils.ops import xywh2xyxy

from bunriwiki.artifacts.image import decode
from bunriwiki.artifacts.inputs import DEFAULT_IOU
from training.helpfulness import surest
from training.judge_photos import corners
from training.metrics import Boxes, Floats
from training.photos import LabelledPhoto

MIN = 0.01  # score of a surest box that counts


def calibrate(network: Any, photos: Sequence[LabelledPhoto], size: int) -> tuple[float, float]:
    """Calibrate `network`, an ultralytics detector, in place, on `photos` in squares of `size` pixels.

    Returns what its logits were multiplied by, and what was added. Raises ValueError if surer boxes are not more often right.
    """
    found = answers(network.eval(), photos, size)
    scale, shift = fit(*surest(found, [corners(photo) for photo in photos], MIN))
    for branch in network.model[-1].cv3:
        with torch.no_grad():
            branch[-1].weight.mul_(scale)
            branch[-1].bias.mul_(scale).add_(shift)
    return scale, shift


def fit(scores: Floats, right: Floats) -> tuple[float, float]:
    """The scale and the shift of the logits of `scores`, after which they are the probabilities of `right` (0 or 1)."""
    logits = np.log(scores / (1 - scores))
    model = LogisticRegression(C=1e3).fit(logits[:, None], right)
    scale, shift = float(model.coef_[0, 0]), float(model.intercept_[0])
    if scale <= 0:
        raise ValueError(f"surer boxes are not more often right (scale {scale:.2f}): there is nothing to calibrate")
    return scale, shift


def answers(network: torch.nn.Module, photos: Sequence[LabelledPhoto], size: int) -> list[Boxes]:
    """What the network finds in each photo, as the served form would: one class per box, suppressed across classes."""
    found = []
    for photo in photos:
        square, frame = decode(photo.path.read_bytes(), size)
        with torch.inference_mode():
            raw = network(torch.from_numpy(square[None]))[0][0].T
        scores, classes = raw[:, 4:].max(dim=1)
        some = scores > MIN
        boxes, scores, classes = xywh2xyxy(raw[some, :4]), scores[some], classes[some]
        kept = TorchNMS.nms(boxes, scores, DEFAULT_IOU)
        pixels = frame.to_pixels(boxes[kept].numpy())
        found.append(Boxes.of(pixels.tolist(), classes[kept].tolist(), scores[kept].tolist()))
    return found
