"""Counting and timing of requests, as an ASGI middleware; and the route of scrapes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics.requests import IN_FLIGHT, begin_with_routes, series_of
from bunriwiki.telemetry.metrics.values import Additions

PROTOCOL = "rest"  # the label `protocol`
METHODS = ("GET", "HEAD", "POST")
SCRAPES = "/metrics"  # the route of scrapes
BEGIN = (1, 1)  # in flight, and in BentoML's progress
END = (1, -1, 1, -1)  # answered, in flight, answered by BentoML's count, in its progress
OTHER = "other"  # the label for methods and paths that this server does not have: a client cannot make up labels


def scrape_route(scrape: Scrape) -> Route:
    """`GET /metrics`."""

    async def answer(_: Request) -> Response:
        return Response(await scrape.text(), media_type=CONTENT_TYPE_LATEST)

    return Route("GET", SCRAPES, answer)


class RequestMetrics:
    """Counts the requests of one gateway worker.

    The series of `routes` (pairs of a method and a path's template) exist from the start. `bentoml` are BentoML's own series,
    None where they are not written.
    """

    def __init__(self, routes: Sequence[tuple[str, str]], bentoml: BentoMetrics | None) -> None:
        self._bentoml = bentoml
        self._in_flight = IN_FLIGHT.labels(PROTOCOL)
        self._began: dict[str, Additions] = {}
        self._ended: dict[tuple[str, str, int], Additions] = {}
        begin_with_routes(routes, PROTOCOL, "200")
        if bentoml is not None:
            for _, route in routes:
                bentoml.answered(route, 200)

    async def count(self, route: str, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have `app` answer a request, and count it afterwards: a request that was counted was answered."""
        started = time.perf_counter()
        status = 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if route != SCRAPES:
            (self._began.get(route) or self._begin(route)).add(BEGIN)
            if self._bentoml is not None:
                self._bentoml.received()
        try:
            await app(scope, receive, send_and_note_status)
        finally:
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in METHODS else OTHER
            (self._ended.get((method, route, status)) or self._end(method, route, status)).add(END, (seconds, seconds))

    def _begin(self, route: str) -> Additions:
        bentoml = [self._bentoml.in_progress(route)] if self._bentoml is not None else []
        found = self._began[route] = Additions([self._in_flight, *bentoml])
        return found

    def _end(self, method: str, route: str, status: int) -> Additions:
        requests, duration = series_of(method, route, str(status), PROTOCOL)
        if route == SCRAPES:  # not in flight: a scrape would always find itself. BentoML does not count its own scrapes, either
            found = Additions([requests], [duration])
        elif self._bentoml is None:
            found = Additions([requests, self._in_flight], [duration])
        else:
            total, bentoml_duration = self._bentoml.answered(route, status)
            sums: list[Counter | Gauge] = [requests, self._in_flight, total, self._bentoml.in_progress(route)]
            found = Additions(sums, [duration, bentoml_duration])
        self._ended[method, route, status] = found
        return found
