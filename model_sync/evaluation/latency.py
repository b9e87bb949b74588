"""Whether a version is too slow, concluded from pairs of answers, or whether the pairs do not tell.

Both versions of a pair answer the same input one after the other, so what else runs on the machine slows down either of them at
random. The median of the ratios is estimated with an interval from their order statistics, which assumes nothing about their
distribution (a sign test inverted: H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CONFIDENCE = 0.999  # of each interval; an evaluation looks at up to five, so all are right with 99.5 % at least
MIN_PAIRS_ABOVE = 40  # more are measured before a version is rejected than before it passes

Pairs = Sequence[tuple[float, float]]
"""The milliseconds of the candidate and of the serving version, for the same input."""

Side = Literal["below", "above", "undecided"]


@dataclass(frozen=True, slots=True)
class Interval:
    """The median of a sample, and an interval that contains the median of the population with the probability CONFIDENCE."""

    median: float
    low: float
    high: float

    def compared_with(self, limit: float) -> Side:
        """Whether the median is at most `limit` (`below`), greater, or may be either."""
        if self.high <= limit:
            return "below"
        return "above" if self.low > limit else "undecided"


def median_interval(values: Sequence[float]) -> Interval:
    """The interval of the median of `values`, which are independent; it is unbounded if there are fewer than eleven."""
    ordered, number = sorted(values), len(values)
    tail, rank = 0.0, 0  # the probability that fewer than `rank` + 1 values lie below the median
    while rank < number // 2 and 2 * (tail + math.comb(number, rank) / 2**number) <= 1 - CONFIDENCE:
        tail += math.comb(number, rank) / 2**number
        rank += 1
    low, high = (ordered[rank - 1], ordered[number - rank]) if rank else (0.0, math.inf)
    return Interval(statistics.median(ordered), low, high)


def slowdown(pairs: Pairs) -> Interval:
    """How many times as long as the serving version the candidate takes."""
    return median_interval([mine / theirs for mine, theirs in pairs])


def own_latency(pairs: Pairs) -> Interval:
    """How many milliseconds the candidate takes."""
    return median_interval([mine for mine, _ in pairs])


def enough(pairs: Pairs, side: Side) -> bool:
    """Whether no more pairs are needed, if the interval is on this side of the limit."""
    return side == "below" or (side == "above" and len(pairs) >= MIN_PAIRS_ABOVE)
