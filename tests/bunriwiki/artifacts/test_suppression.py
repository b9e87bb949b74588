from __future__ import annotations

import pytest
import torch

from bunriwiki.artifacts.suppression import nms

pytestmark = pytest.mark.slow  # torch

BOXES = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 10]]])
SCORES = torch.tensor([[[0.6, 0.9, 0.5, 0.1]]])


def kept_boxes(iou: float, confidence: float = 0.2, at_most: int = 10) -> list[list[int]]:
    return nms(BOXES, SCORES, at_most, torch.tensor([iou]), torch.tensor([confidence])).tolist()


def test_the_better_of_two_overlapping_boxes_is_kept() -> None:
    assert kept_boxes(iou=0.5) == [[0, 0, 1], [0, 0, 2]]


def test_boxes_that_overlap_less_than_the_threshold_are_kept() -> None:
    assert kept_boxes(iou=0.9) == [[0, 0, 1], [0, 0, 0], [0, 0, 2]]


def test_only_boxes_above_the_confidence_are_kept() -> None:
    assert kept_boxes(iou=0.5, confidence=0.6) == [[0, 0, 1]]
    assert kept_boxes(iou=0.5, confidence=0.95) == []


def test_at_most_so_many_boxes_are_kept() -> None:
    assert kept_boxes(iou=0.9, at_most=2) == [[0, 0, 1], [0, 0, 0]]


def test_images_and_classes_do_not_suppress_each_other() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10]], [[0, 0, 10, 10]]])
    scores = torch.tensor([[[0.9], [0.8]], [[0.7], [0.1]]])
    found = nms(boxes, scores, 5, torch.tensor([0.5]), torch.tensor([0.5]))
    assert found.tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
