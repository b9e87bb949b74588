"""How many calls each version of a model has answered, and how long that took: of one gateway worker, since it started."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How often, and how many nanoseconds together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class Statistics:
    """What Triton's statistics extension tells of a version.

    `success` and `fail` are of calls, from their checks to their answers; `infer` is of executions, the hop included. A call
    may have many inputs, and an execution answers many calls.
    """

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    inferences: int = 0
    last_ms: int = 0

    def answered(self, inputs: int, ns: int) -> None:
        """A call with so many inputs was answered."""
        self.success.add(ns)
        self.inferences += inputs
        self.last_ms = time.time_ns() // 1_000_000


class StatisticsByVersion:
    """The statistics of one model; of the versions that answered last."""

    MAX_VERSIONS = 16

    def __init__(self) -> None:
        self._versions: dict[str, Statistics] = {}

    def of(self, version: str) -> Statistics:
        """The statistics of a version, to be added to."""
        if version not in self._versions:
            while len(self._versions) >= self.MAX_VERSIONS:
                del self._versions[next(iter(self._versions))]
            self._versions[version] = Statistics()
        return self._versions[version]

    def all(self) -> dict[str, Statistics]:
        """By version."""
        return dict(self._versions)
