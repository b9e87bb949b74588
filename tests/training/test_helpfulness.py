from __future__ import annotations

import pytest

from training.helpfulness import Helpfulness, helpfulness, surest, sweep
from training.metrics import Boxes

HERE, LOOSE, THERE = (10, 10, 50, 50), (30, 10, 70, 50), (60, 60, 90, 90)  # LOOSE overlaps HERE by a third
CAN = Boxes.of([HERE], [2])


def judged(answer: Boxes, truth: Boxes = CAN, confidence: float = 0.25) -> Helpfulness:
    return helpfulness([answer], [truth], confidence)


@pytest.mark.parametrize(
    ("boxes", "classes", "scores", "expected"),
    [
        ([HERE], [2], [0.9], (1, 1, 0)),
        ([HERE], [1], [0.9], (1, 0, 1)),  # the right place, another bin
        ([LOOSE], [2], [0.9], (0, 0, 0)),  # a loose box, but the right bin
        ([LOOSE], [1], [0.9], (0, 0, 1)),
        ([THERE], [2], [0.9], (0, 0, 1)),  # something where nothing is
        ([HERE], [2], [0.2], (0, 0, 0)),  # not served
        ([], [], [], (0, 0, 0)),
        ([THERE, HERE], [1, 2], [0.9, 0.5], (1, 0, 1)),  # the surest one is wrong
        ([HERE, THERE], [2, 1], [0.9, 0.5], (1, 1, 0)),
        ([THERE, HERE], [1, 2], [0.9, 0.2], (0, 0, 1)),  # what is not served finds nothing
    ],
)
def test_a_photo(boxes: list[tuple[int, ...]], classes: list[int], scores: list[float], expected: tuple[int, int, int]) -> None:
    assert judged(Boxes.of(boxes, classes, scores)) == Helpfulness(*expected)


def test_a_box_around_two_objects_may_be_of_either() -> None:
    both = Boxes.of([HERE, (10, 10, 50, 52)], [1, 2])
    assert judged(Boxes.of([HERE], [2], [0.9]), both) == Helpfulness(1, 1, 0)


@pytest.mark.parametrize(
    ("uncertain", "expected"), [([True, False], (1, 0, 0)), ([False, True], (1, 0, 1)), ([True, True], (1, 0, 0))]
)
def test_an_uncertain_surest_box_advises_no_bin(uncertain: list[bool], expected: tuple[int, int, int]) -> None:
    answer = Boxes.of([THERE, HERE], [1, 2], [0.9, 0.5], uncertain)
    assert judged(answer) == Helpfulness(*expected)
    right = Boxes.of([HERE], [2], [0.9], [True])
    assert judged(right) == Helpfulness(1, 0, 0)
    assert surest([right], [CAN], 0.25)[1].tolist() == [1]  # its class is right all the same


def test_a_photo_of_nothing() -> None:
    assert judged(Boxes.of([HERE], [2], [0.9]), Boxes.of([], [])) == Helpfulness(0, 0, 1)


def test_the_shares_of_several_photos() -> None:
    answers = [Boxes.of([HERE], [2], [0.9]), Boxes.of([HERE], [1], [0.3]), Boxes.of([], []), Boxes.of([], [])]
    truth = [CAN] * 4
    assert helpfulness(answers, truth, 0.25) == Helpfulness(0.5, 0.25, 0.25)
    assert sweep(answers, truth, [0.25, 0.5]) == [(0.25, Helpfulness(0.5, 0.25, 0.25)), (0.5, Helpfulness(0.25, 0.25, 0))]
    scores, right = surest(answers, truth, 0.25)
    assert (scores.tolist(), right.tolist()) == ([0.9, 0.3], [1, 0])
