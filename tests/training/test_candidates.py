"""Which boxes of a first stage are looked at."""

from __future__ import annotations

import pytest
import torch

from training.candidates import CANDIDATES, SURE, candidates
from training.photos import CLASSES


class Detector(torch.nn.Module):
    """Answers with `found`, boxes and scores [n, 4 + classes], and keeps the size of what it has seen."""

    def __init__(self, found: torch.Tensor) -> None:
        super().__init__()
        self.found = found
        self.seen: tuple[int, ...] = ()

    def forward(self, squares: torch.Tensor) -> tuple[torch.Tensor]:
        self.seen = tuple(squares.shape)
        return (self.found.T[None],)


def row(x: float, score: float, side: float = 10.0) -> list[float]:
    return [x, 50.0, side, side, score, *[0.0] * (len(CLASSES) - 1)]


def test_the_surest_boxes_that_do_not_overlap() -> None:
    rows = [row(20, 0.3), row(21, 0.6), row(60, 0.9), row(90, SURE / 2)]
    detector = Detector(torch.tensor(rows))
    boxes, scores = candidates(detector, torch.zeros(1, 3, 256, 256))
    assert detector.seen == (1, 3, 128, 128)
    assert boxes.tolist() == [[120, 100, 20, 20], [42, 100, 20, 20]]  # in the square
    assert scores[:, 0].tolist() == pytest.approx([0.9, 0.6])


def test_no_more_than_eight() -> None:
    detector = Detector(torch.tensor([row(12 * number, 0.5) for number in range(1, 11)]))
    assert len(candidates(detector, torch.zeros(1, 3, 256, 256))[0]) == CANDIDATES == 8


def test_nothing_is_found() -> None:
    boxes, scores = candidates(Detector(torch.tensor([row(20, 0.0)])), torch.zeros(1, 3, 256, 256))
    assert (boxes.shape, scores.shape) == ((0, 4), (0, len(CLASSES)))
