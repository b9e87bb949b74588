from __future__ import annotations

import math
import random

import pytest

from model_sync.quality.accuracy import Rated, ScoreBin, calibration_error, interval, smallest_drop

Z95 = 1.959964


def test_the_interval_of_an_accuracy() -> None:
    low, high = interval(Rated(100, 90), Z95)
    assert (round(low, 4), round(high, 4)) == (0.8256, 0.9448)  # as in R: prop.test(90, 100, correct = FALSE)
    assert interval(Rated(), Z95) == (0, 1)
    assert interval(Rated(10, 10), Z95)[1] == pytest.approx(1)
    assert math.isnan(Rated().accuracy)


def test_the_lower_bound_of_a_drop() -> None:
    # Newcombe 1998, table II, contrast (a), method 10: 56/70 - 48/80 = 0.2, from 0.0524 to 0.3339
    assert smallest_drop(Rated(70, 56), Rated(80, 48), Z95) == pytest.approx(0.0524, abs=5e-5)
    assert smallest_drop(Rated(100, 80), Rated(100, 80), Z95) < 0


def test_the_drop_is_covered_as_often_as_stated() -> None:
    generator = random.Random(0)

    def rated(answers: int, accuracy: float) -> Rated:
        return Rated(answers, sum(generator.random() < accuracy for _ in range(answers)))

    above = sum(smallest_drop(rated(300, 0.9), rated(200, 0.8), Z95) > 0.1 for _ in range(1000))
    assert 5 <= above <= 50  # 2.5 %


def test_calibration() -> None:
    assert calibration_error([ScoreBin(10, 9.0, 9), ScoreBin(10, 5.5, 5)]) == pytest.approx(0.025)
    assert calibration_error([ScoreBin(4, 4.0, 0)]) == 1
    assert math.isnan(calibration_error([]))
