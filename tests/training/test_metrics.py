from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from training.metrics import Boxes, average_precision, calibration_error, macro_f1, macro_f1_interval, overlaps

BOX = (10, 10, 50, 50)


def test_overlaps() -> None:
    one = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], dtype=float)
    other = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], dtype=float)
    assert overlaps(one, other) == pytest.approx(np.array([[1, 1 / 3], [0, 0]]))


def test_right_answers_are_perfect() -> None:
    truth = [Boxes.of([BOX], [0]), Boxes.of([BOX, (60, 60, 90, 90)], [0, 1])]
    answers = [Boxes.of([BOX], [0], [0.9]), Boxes.of([BOX, (60, 60, 90, 90)], [0, 1], [0.8, 0.7])]
    found = average_precision(answers, truth)
    assert found.keys() == {0, 1}
    assert all(value == pytest.approx((0.995, 0.995), abs=1e-3) for value in found.values())


def test_the_wrong_class_and_a_loose_box_count_less() -> None:
    truth = [Boxes.of([BOX], [0]), Boxes.of([BOX], [1])]
    answers = [Boxes.of([BOX], [1], [0.9]), Boxes.of([(10, 10, 50, 38)], [1], [0.8])]  # an overlap of 0.7
    found = average_precision(answers, truth)
    assert sum(found[0]) == 0
    at_half, mean = found[1]
    assert 0.4 < at_half < 0.6  # behind a surer wrong one
    assert mean < at_half


def test_a_box_is_found_once() -> None:
    truth = [Boxes.of([BOX, (60, 60, 90, 90)], [0, 0])]
    twice = average_precision([Boxes.of([BOX, BOX], [0, 0], [0.9, 0.8])], truth)
    both = average_precision([Boxes.of([BOX, (60, 60, 90, 90)], [0, 0], [0.9, 0.8])], truth)
    assert twice[0][0] < 0.6 < both[0][0]


def test_photos_without_answers() -> None:
    truth = [Boxes.of([BOX], [0]), Boxes.of([], [])]
    answers = [Boxes.of([], []), Boxes.of([BOX], [0], [0.5])]
    assert average_precision(answers, truth)[0] == (0, 0)


def test_calibration_error() -> None:
    sure = np.full(100, 0.75)
    assert calibration_error(sure, np.arange(100) < 75) == pytest.approx(0)
    assert calibration_error(sure, np.arange(100) < 50) == pytest.approx(0.25)
    assert calibration_error(np.ones(4), np.ones(4, dtype=bool)) == pytest.approx(0)


@pytest.mark.slow
def test_the_interval_holds_the_value() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    chosen = np.where(rng.random(300) < 0.6, labels, rng.integers(0, 3, 300))
    low, high = macro_f1_interval(labels, chosen)
    assert low < (labels == chosen).mean() < high
    assert high - low < 0.2
    assert macro_f1_interval(labels, chosen) == (low, high)


@pytest.mark.parametrize("classes", [3, 60], ids=["all classes in each sample", "classes that samples lack"])
def test_macro_f1_is_scikit_learns(classes: int) -> None:
    labels, chosen = np.random.default_rng(1).integers(0, classes, (2, 20, 50))
    expected = [
        f1_score(right, answered, average="macro", zero_division=0) for right, answered in zip(labels, chosen, strict=True)
    ]
    assert macro_f1(labels, chosen) == pytest.approx(expected)
