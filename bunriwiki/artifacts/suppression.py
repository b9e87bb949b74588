"""Non-maximum suppression as an operator of torch: `bunriwiki::nms`, with the semantics of ONNX's NonMaxSuppression.

Torch has no such operator, and the graph of a detector should contain it in both of its forms. Exported to ONNX it becomes the
standard operator (`model_sync/importing/compilers/yolo.py`); in an exported torch program it stays this one, so a process that
loads such a program must import this module first. No other module of this package imports torch.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("bunriwiki::nms", mutates_args=())
def nms(boxes: Tensor, scores: Tensor, at_most: int, iou: Tensor, confidence: Tensor) -> Tensor:
    """The boxes that are kept, as int64 [kept, 3]: image, class, box; sorted by image, class, and descending score.

    `boxes` is [images, n, 4] (x1, y1, x2, y2), `scores` is [images, classes, n]; `iou` and `confidence` are [1]. For each image
    and class at most `at_most` boxes are kept; they score above `confidence` and overlap no better kept box by more than `iou`.
    """
    kept = [
        torch.tensor([image, category, box])
        for image in range(boxes.shape[0])
        for category in range(scores.shape[1])
        for box in _greedy(boxes[image], scores[image, category], float(iou), float(confidence))[:at_most]
    ]
    return torch.stack(kept) if kept else boxes.new_empty((0, 3), dtype=torch.int64)


@nms.register_fake
def _(boxes: Tensor, *_: object) -> Tensor:
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((kept, 3), dtype=torch.int64)


def _greedy(boxes: Tensor, scores: Tensor, iou: float, confidence: float) -> list[int]:
    candidates = torch.nonzero(scores > confidence).flatten()
    candidates = candidates[scores[candidates].argsort(descending=True, stable=True)]
    kept: list[int] = []
    while len(candidates):
        best, rest = candidates[0], candidates[1:]
        kept.append(int(best))
        candidates = rest[_overlap(boxes[best], boxes[rest]) <= iou]
    return kept


def _overlap(box: Tensor, others: Tensor) -> Tensor:
    common = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp(min=0).prod(1)
    area = (box[2:] - box[:2]).prod()
    return common / (area + (others[:, 2:] - others[:, :2]).prod(1) - common)
