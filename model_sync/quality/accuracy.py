"""Accuracy and calibration from judged answers, with the intervals in which they lie."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True)
class Rated:
    """How many answers were rated by feedback, and how many of them were right."""

    answers: int = 0
    correct: int = 0

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0..1; NaN if none was rated."""
        return self.correct / self.answers if self.answers else math.nan


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Of the classes that were named with a score in one bin: how many, the sum of their scores, and how many were right."""

    named: int
    scores: float
    correct: int


def interval(rated: Rated, z: float) -> tuple[float, float]:
    """Wilson's score interval of the accuracy (Wilson 1927), `z` standard errors wide; (0, 1) if no answer was rated."""
    n, p = rated.answers, rated.accuracy
    if not n:
        return 0.0, 1.0
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def smallest_drop(before: Rated, now: Rated, z: float) -> float:
    """The lower bound of how much the accuracy fell, 0..1; negative if it may have risen.

    Newcombe's interval of the difference of two proportions from their Wilson intervals (Newcombe 1998, method 10). Both must
    have rated answers.
    """
    low, _ = interval(before, z)
    _, high = interval(now, z)
    return before.accuracy - now.accuracy - math.hypot(before.accuracy - low, high - now.accuracy)


def calibration_error(bins: Iterable[ScoreBin]) -> float:
    """The expected calibration error, 0..1 (Naeini et al. 2015): the distance of score and accuracy, averaged over the bins.

    NaN if nothing was named.
    """
    bins = list(bins)
    total = sum(each.named for each in bins)
    return sum(abs(each.scores - each.correct) for each in bins) / total if total else math.nan
