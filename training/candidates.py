"""The boxes that the first stage of a detector finds: what its second stage looks at, when it is trained and when it serves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from ultralytics.utils.nms import TorchNMS
from ultralytics.utils.ops import xywh2xyxy

from model_sync.importing.compilers.yolo import GOLDEN_IOU

CANDIDATES = 8  # boxes per photo that are looked at: what a photo costs at most
SURE = 0.01  # the first stage's score of a candidate


def candidates(first: torch.nn.Module, square: Tensor) -> tuple[Tensor, Tensor]:
    """The CANDIDATES surest boxes of `first` in a square [1, 3, size, size], RGB in 0..1, of which it sees half the size.

    Boxes [n, 4] are x, y of the centre, width, height in the square; with them the scores of their classes [n, classes].
    """
    raw = first(functional.avg_pool2d(square, 2))[0][0].T
    scores = raw[:, 4:].max(dim=1).values
    some = scores > SURE
    raw, scores = raw[some], scores[some]
    kept = TorchNMS.nms(xywh2xyxy(raw[:, :4]), scores, GOLDEN_IOU)[:CANDIDATES]
    return raw[kept, :4] * 2, raw[kept, 4:]
