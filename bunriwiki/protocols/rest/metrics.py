"""Counting and timing of requests, and the route of scrapes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST

from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics.requests import IN_FLIGHT, begin_with_routes, series_of
from bunriwiki.telemetry.metrics.values import Amount, Distribution

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


class _Answered(NamedTuple):
    """What an answer with one method, route and status changes: counters, durations, and the gauges of running requests."""

    counters: Sequence[Amount]
    durations: Sequence[Distribution]
    running: Sequence[Amount]


class RequestMetrics:
    """Counts the requests of one gateway worker.

    The series of `routes` (pairs of a method and a path's template) exist from the start. `bentoml` are BentoML's own series,
    None where they are not written.
    """

    def __init__(self, routes: Sequence[tuple[str, str]], bentoml: BentoMetrics | None) -> None:
        self._bentoml = bentoml
        self._in_flight = Amount(IN_FLIGHT.labels(PROTOCOL))
        self._running: dict[str, Sequence[Amount]] = {}
        self._answered: dict[tuple[str, str, int], _Answered] = {}
        begin_with_routes(routes, PROTOCOL, "200")
        if bentoml is not None:
            for _, route in routes:
                bentoml.answered(route, 200)

    def begin(self, route: str) -> float:
        """A request to `route` begins. Returns what `end` requires."""
        for running in self._running.get(route) or self._begin(route):
            running.add(1)
        if self._bentoml is not None and route != SCRAPES:
            self._bentoml.received()
        return time.perf_counter()

    def end(self, route: str, method: str, status: int, began: float) -> None:
        """Count a request, of which `begin` returned `began`, after its answer was sent."""
        seconds = time.perf_counter() - began
        answered = self._answered.get((method, route, status)) or self._first(method, route, status)
        for counter in answered.counters:
            counter.add(1)
        for duration in answered.durations:
            duration.observe(seconds)
        for running in answered.running:
            running.add(-1)

    def _begin(self, route: str) -> Sequence[Amount]:
        if route == SCRAPES:  # not in flight: a scrape would always find itself
            found = []
        elif self._bentoml is None:
            found = [self._in_flight]
        else:
            found = [self._in_flight, self._bentoml.in_progress(route)]
        self._running[route] = found
        return found

    def _first(self, method: str, route: str, status: int) -> _Answered:
        requests, duration = series_of(method if method in METHODS else OTHER, route, str(status), PROTOCOL)
        counters, durations = [requests], [duration]
        if self._bentoml is not None and route != SCRAPES:  # BentoML does not count its own scrapes, either
            total, seconds = self._bentoml.answered(route, status)
            counters.append(total)
            durations.append(seconds)
        found = _Answered(counters, durations, self._running[route])
        if method in METHODS:  # of others there are any number
            self._answered[method, route, status] = found
        return found
