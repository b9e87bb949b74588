"""The difference of two things that were measured side by side, many times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Difference:
    """The median of differences, and the interval in which it lies with a confidence of 95 %."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, differences: Sequence[float]) -> Self:
        """From the order of the differences, whatever their distribution is: the outer ones are often noise."""
        ordered, number = sorted(differences), len(differences)
        outside = max(0, math.floor(number / 2 - 0.98 * math.sqrt(number)))
        return cls(statistics.median(ordered), ordered[outside], ordered[number - 1 - outside])

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f} to {self.high:.1f})"
