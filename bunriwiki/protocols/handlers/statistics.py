"""Counts and durations of the inference requests of one gateway worker since its start, by version of a model."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """A count, and the sum of the durations."""

    count: int = 0
    seconds: float = 0.0

    @property
    def ns(self) -> int:
        """The sum in nanoseconds."""
        return round(self.seconds * 1e9)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class Statistics:
    """The figures of Triton's statistics extension for one version.

    `success` and `fail` count requests, from their checks to their answers; `infer` counts executions of the model, each with
    its call to the runner. A request may have many inputs, and an execution answers many requests. `inferences` are the inputs
    that were answered, `last_ms` the time of the last answer, in milliseconds since the epoch.
    """

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    inferences: int = 0
    last_ms: int = 0

    def answered(self, inputs: int, seconds: float) -> None:
        """Count a request with so many `inputs` that was answered in `seconds`."""
        self.success.add(seconds)
        self.inferences += inputs
        self.last_ms = time.time_ns() // 1_000_000


class StatisticsByVersion:
    """The statistics of one model, for the `MAX_VERSIONS` versions that were used last."""

    MAX_VERSIONS = 16

    def __init__(self) -> None:
        self._versions: dict[str, Statistics] = {}

    def of(self, version: str) -> Statistics:
        """The statistics of a version, for counting."""
        if version not in self._versions:
            while len(self._versions) >= self.MAX_VERSIONS:
                del self._versions[next(iter(self._versions))]
            self._versions[version] = Statistics()
        return self._versions[version]

    def all(self) -> dict[str, Statistics]:
        """By version."""
        return dict(self._versions)
