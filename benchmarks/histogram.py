"""Latencies in fixed memory: a list that grows with every answer would make the garbage collector stall the generator."""

from __future__ import annotations

from array import array

import numpy as np

STEP = 10_000  # nanoseconds per bucket
BUCKETS = 200_000  # up to 2 s; the last bucket has everything slower


class Histogram:
    """Counts of latencies in buckets of 10 µs. The slowest latency is kept exactly."""

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * BUCKETS))
        self.count = 0
        self.slowest = 0  # nanoseconds

    def add(self, nanoseconds: int) -> None:
        self._counts[min(nanoseconds // STEP, BUCKETS - 1)] += 1
        self.count += 1
        self.slowest = max(self.slowest, nanoseconds)

    def milliseconds(self, share: float) -> float:
        """The latency in ms that `share` of the latencies do not exceed: a bucket's upper edge, and at most the slowest."""
        if not self.count:
            return float("nan")
        reached = np.cumsum(np.frombuffer(self._counts, dtype=np.uint64))
        bucket = int(np.searchsorted(reached, np.ceil(share * self.count)))
        edge = (bucket + 1) * STEP if bucket < BUCKETS - 1 else self.slowest
        return min(edge, self.slowest) / 1e6
