"""When a request began, and what a model answered: counted together, once the answer is ready to be sent."""

from __future__ import annotations

from time import perf_counter

import msgspec

from bunriwiki.telemetry.metrics.predictions import PredictionMetrics
from bunriwiki.telemetry.metrics.record_file import NOTHING
from bunriwiki.telemetry.metrics.requests import RouteMetrics, Status

# Of an answer: the metrics of its model, the version, the number of inputs, when they were checked and when they were answered,
# and the seconds that they waited for their call. A plain tuple: one is made for each request.
Answer = tuple[PredictionMetrics, str, int, float, float, float]


class RequestTiming(msgspec.Struct, gc=False):
    """A request to `route` that `began` at a time of `time.perf_counter`.

    The server of each protocol creates one when it begins to read a request, and the data plane sets `answer`. It is a Struct
    because that runs no Python code, and passed on as an argument because a context variable costs more.
    """

    route: RouteMetrics
    method: str
    began: float
    ended: bool = False
    answer: Answer | None = None

    def end(self, status: Status) -> None:
        """The response is encoded. Counts the request, and if a model answered, the prediction and the calls to its runner that
        are not counted yet. Call it once only.
        """
        ended = perf_counter()
        self.ended = True
        began, answer = self.began, self.answer
        if answer is None:
            record = self.route.records.get((self.method, status)) or self.route.first(self.method, status)
            record(1, ended - began)
            return
        model, version, inputs, checked, answered, queued = answer
        try:
            record = self.route.records[self.method, status, model, version]
        except KeyError:
            record = self.route.first(self.method, status, model, version)
        calls = model.calls
        if not calls:
            record(1, ended - began, inputs, answered - checked, checked - began, ended - answered, queued)
            return
        called, (preprocess, forward, tokens, padding) = calls.pop()
        if calls:
            model.count_calls()
        record(
            1, ended - began, inputs, answered - checked, checked - began, ended - answered, queued,
            called, preprocess or NOTHING, forward, tokens, padding,
        )  # fmt: skip
