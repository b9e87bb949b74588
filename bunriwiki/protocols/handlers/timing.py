"""The times of a request outside of the handlers: reading it, and encoding its answer."""

from __future__ import annotations

import time
from contextvars import ContextVar

from bunriwiki.telemetry.metrics.predictions import PredictionMetrics

_current: ContextVar[RequestTiming | None] = ContextVar("request timing", default=None)


class RequestTiming:
    """When a request began, and when the handler checked its inputs and had its answers. In nanoseconds of a monotonic clock.

    The server of each protocol creates one when it begins to read a request, and the handler finds it in the context of the
    task: no endpoint in between has to pass it on.
    """

    __slots__ = ("answered", "began", "checked", "metrics")

    checked: int
    answered: int

    def __init__(self) -> None:
        self.began = time.monotonic_ns()
        self.metrics: PredictionMetrics | None = None
        _current.set(self)

    def end(self) -> None:
        """The answer is encoded. Counts the phases of an answered prediction, and nothing for other requests."""
        if self.metrics is not None:
            encoding = time.monotonic_ns() - self.answered
            self.metrics.transferred((self.checked - self.began) / 1e9, encoding / 1e9)


def note_answer(metrics: PredictionMetrics, checked: int, answered: int) -> None:
    """Note the times of the handler for the request of this task, whose model has `metrics`."""
    if timing := _current.get():
        timing.checked, timing.answered, timing.metrics = checked, answered, metrics
