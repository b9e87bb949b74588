"""The times of a request outside of the handlers: reading it, and encoding its answer."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass

from bunriwiki.telemetry.metrics.predictions import PredictionMetrics

_current: ContextVar[RequestTiming | None] = ContextVar("request timing", default=None)


@dataclass(slots=True)
class RequestTiming:
    """When a request began, and when the handler checked its inputs and had its answers. In nanoseconds of a monotonic clock.

    The server of each protocol creates one per request, the handler finds it in the context, so that no endpoint in between
    has to pass it on.
    """

    began: int
    checked: int = 0
    answered: int = 0
    metrics: PredictionMetrics | None = None

    @classmethod
    def begin(cls) -> RequestTiming:
        """The times of the request that this task begins to read now."""
        timing = cls(time.monotonic_ns())
        _current.set(timing)
        return timing

    def end(self) -> None:
        """The answer is encoded. Counts the phases of an answered prediction, and nothing for other requests."""
        if self.metrics is not None:
            encoding = time.monotonic_ns() - self.answered
            self.metrics.transferred((self.checked - self.began) / 1e9, encoding / 1e9)


def note_answer(metrics: PredictionMetrics, checked: int, answered: int) -> None:
    """Note the times of the handler for the request of this task, whose model has `metrics`."""
    if timing := _current.get():
        timing.checked, timing.answered, timing.metrics = checked, answered, metrics
