"""When a request began, and what a model answered: counted together, once the answer is ready to be sent."""

from __future__ import annotations

import time
from contextvars import ContextVar

from bunriwiki.telemetry.metrics.predictions import PredictionMetrics
from bunriwiki.telemetry.metrics.requests import RouteMetrics, Status

# Of an answer: the metrics of its model, the version, the number of inputs, when they were checked and when they were answered,
# and the seconds that they waited for their call. A plain tuple: one is made for each request.
Answer = tuple[PredictionMetrics, str, int, int, int, float]

CURRENT: ContextVar[RequestTiming | None] = ContextVar("request timing", default=None)


class RequestTiming:
    """A request to `route` that begins now, in nanoseconds of a monotonic clock.

    The server of each protocol creates one when it begins to read a request. The handler finds it in the context of the task,
    so that no endpoint in between has to pass it on, and sets `answer`.
    """

    __slots__ = ("answer", "began", "ended", "method", "route")

    def __init__(self, route: RouteMetrics, method: str) -> None:
        self.began = time.monotonic_ns()
        self.route = route
        self.method = method
        self.ended = False
        self.answer: Answer | None = None
        CURRENT.set(self)

    def end(self, status: Status) -> None:
        """The response is encoded. Counts the request, and the prediction if a model answered. Call it once only."""
        ended = time.monotonic_ns()
        self.ended = True
        route, method, began = self.route, self.method, self.began
        if self.answer is None:
            record = route.records.get((method, status)) or route.first(method, status)
            record(1, (ended - began) / 1e9)
            return
        model, version, inputs, checked, answered, queued = self.answer
        record = route.records.get((method, status, model, version)) or route.first(method, status, model, version)
        record(
            1, (ended - began) / 1e9,
            inputs, (answered - checked) / 1e9, (checked - began) / 1e9, (ended - answered) / 1e9, queued,
        )  # fmt: skip
