"""Counts an answered prediction, with the times of its request outside of the handlers: reading it, and encoding its answer."""

from __future__ import annotations

import time
from contextvars import ContextVar

from bunriwiki.telemetry.metrics.predictions import PredictionMetrics

_current: ContextVar[RequestTiming | None] = ContextVar("request timing", default=None)


class RequestTiming:
    """When a request began, and what the handler answered. In nanoseconds of a monotonic clock.

    The server of each protocol creates one when it begins to read a request, and the handler finds it in the context of the
    task: no endpoint in between has to pass it on.
    """

    __slots__ = ("answer", "began")

    def __init__(self) -> None:
        self.began = time.monotonic_ns()
        self.answer: tuple[PredictionMetrics, str, int, int, int] | None = None
        _current.set(self)

    def end(self) -> None:
        """The response is encoded. Counts an answered prediction, and nothing for other requests."""
        if self.answer is not None:
            metrics, version, inputs, checked, answered = self.answer
            transfer = ((checked - self.began) / 1e9, (time.monotonic_ns() - answered) / 1e9)
            metrics.answered(version, inputs, (answered - checked) / 1e9, transfer)


def note_answer(metrics: PredictionMetrics, version: str, inputs: int, checked: int, answered: int) -> None:
    """Count the answer of `version` to so many inputs, with the times at which they were checked and answered.

    A request of a server is counted once its response is encoded, together with the times before and after.
    """
    if timing := _current.get():
        timing.answer = (metrics, version, inputs, checked, answered)
    else:
        metrics.answered(version, inputs, (answered - checked) / 1e9)
