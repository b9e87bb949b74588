"""Counting and timing of requests, as an ASGI middleware; and the route of scrapes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics.requests import IN_FLIGHT, begin_with_routes, count_request

PROTOCOL = "rest"  # the label `protocol`
METHODS = ("GET", "HEAD", "POST")
SCRAPES = "/metrics"  # the route of scrapes, which are not counted among the requests in flight
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
        begin_with_routes(routes, PROTOCOL, "200")
        if bentoml is not None:
            for _, route in routes:
                bentoml.existing(route, 200)

    async def count(self, route: str, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have `app` answer a request, and count it afterwards: a request that was counted was answered."""
        started = time.perf_counter()
        status = 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        is_scrape = route == SCRAPES
        bentoml = None if is_scrape else self._bentoml  # BentoML does not count its own scrapes
        if bentoml is not None:
            bentoml.begin(route)
        if not is_scrape:  # or a scrape would always find one
            self._in_flight.inc()
        try:
            await app(scope, receive, send_and_note_status)
        finally:
            if not is_scrape:
                self._in_flight.dec()
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in METHODS else OTHER
            count_request(method, route, str(status), PROTOCOL, seconds)
            if bentoml is not None:
                bentoml.end(route, status, seconds)
