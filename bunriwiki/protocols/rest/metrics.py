"""Counting and timing of requests, and the route of scrapes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram

from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics.requests import IN_FLIGHT, begin_with_routes, series_of
from bunriwiki.telemetry.metrics.values import recorder

PROTOCOL = "rest"  # the label `protocol`
METHODS = ("GET", "HEAD", "POST")
SCRAPES = "/metrics"  # the route of scrapes
PROBES = (SCRAPES, "/livez", "/readyz", "/healthz")  # scrapes and health checks
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
        self._received: dict[str, Callable[..., None]] = {}
        self._answered: dict[tuple[str, str, int], Callable[..., None]] = {}
        begin_with_routes(routes, PROTOCOL, "200")
        if bentoml is not None:
            for _, route in routes:
                bentoml.answered(route, 200)

    def begin(self, route: str) -> float:
        """A request to `route` begins. Returns what `end` requires."""
        if route != SCRAPES:
            received = self._received.get(route) or self._first_to(route)
            if self._bentoml is None:
                received(1)
            else:
                received(1, 1)
                self._bentoml.received()
        return time.perf_counter()

    def end(self, route: str, method: str, status: int, began: float) -> None:
        """Count a request, of which `begin` returned `began`, after its answer was sent."""
        seconds = time.perf_counter() - began
        answered = self._answered.get((method, route, status)) or self._first(method, route, status)
        if route == SCRAPES:
            answered(1, seconds)
        elif self._bentoml is None:
            answered(1, seconds, -1)
        else:
            answered(1, seconds, -1, -1, 1, seconds)

    def _first_to(self, route: str) -> Callable[..., None]:
        found = self._received[route] = recorder(*self._running(route))
        return found

    def _first(self, method: str, route: str, status: int) -> Callable[..., None]:
        if method not in METHODS:  # there are any number of others
            method = OTHER
            if found := self._answered.get((method, route, status)):
                return found
        children = [*series_of(method, route, str(status), PROTOCOL), *self._running(route)]
        if self._bentoml is not None and route != SCRAPES:  # BentoML does not count its own scrapes, either
            children += self._bentoml.answered(route, status)
        found = self._answered[method, route, status] = recorder(*children)
        return found

    def _running(self, route: str) -> list[Counter | Gauge | Histogram]:
        """The gauges of requests to `route` that are being answered. A scrape is not in flight: it would always find itself."""
        if route == SCRAPES:
            return []
        gauges: list[Counter | Gauge | Histogram] = [IN_FLIGHT.labels(PROTOCOL)]
        return gauges if self._bentoml is None else [*gauges, self._bentoml.in_progress(route)]
