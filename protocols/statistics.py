"""How many inputs a model has answered, and how long that took: of one gateway worker, since it started."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How often, and how many nanoseconds together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class Statistics:
    """What Triton's statistics extension tells of a model. A call may have many inputs, an execution answers many calls."""

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    inferences: int = 0
    executions: int = 0
    last_ms: int = 0

    @property
    def queue(self) -> Duration:
        """What calls waited before and after their executions."""
        return Duration(self.success.count, max(0, self.success.ns - self.infer.ns))

    @contextmanager
    def of_call(self, inputs: int) -> Iterator[None]:
        """Counts a call with so many inputs, as a failed one when the block raises."""
        begun = time.monotonic_ns()
        try:
            yield
        except BaseException:
            self.fail.add(time.monotonic_ns() - begun)
            raise
        self.success.add(time.monotonic_ns() - begun)
        self.inferences += inputs
        self.last_ms = time.time_ns() // 1_000_000

    @contextmanager
    def of_execution(self, inputs: int) -> Iterator[None]:
        """Counts a forward pass for so many inputs."""
        begun = time.monotonic_ns()
        try:
            yield
        finally:
            self.infer.add((time.monotonic_ns() - begun) * inputs, inputs)
            self.executions += 1
