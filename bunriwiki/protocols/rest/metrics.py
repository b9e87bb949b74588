"""What counts the requests over REST, and the route of scrapes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from prometheus_client import CONTENT_TYPE_LATEST

from bunriwiki.protocols.handlers.scrape import Scrape
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.protocols.rest.responses import Response
from bunriwiki.protocols.rest.routing import Route
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics.gauges import publish_from
from bunriwiki.telemetry.metrics.requests import IN_FLIGHT, OTHER, RouteMetrics

PROTOCOL = "rest"  # the label `protocol`
SCRAPES = "/metrics"  # the route of scrapes
PROBES = (SCRAPES, "/livez", "/readyz", "/healthz")  # scrapes and health checks


def scrape_route(scrape: Scrape) -> Route:
    """`GET /metrics`."""

    async def answer(_: Request) -> Response:
        return Response(await scrape.text(), media_type=CONTENT_TYPE_LATEST)

    return Route("GET", SCRAPES, answer)


def route_metrics(routes: Sequence[tuple[str, str]], bentoml: BentoMetrics | None) -> dict[str, RouteMetrics]:
    """What counts the requests of one gateway worker: by the template of the path, and `OTHER` for all other paths.

    The series of `routes` (pairs of a method and a template) exist from the start. `bentoml` are BentoML's own series, None
    where they are not written. A scrape is not in flight, as it would always find itself, and BentoML does not count its own.
    """
    others = {path: RouteMetrics(path, PROTOCOL, bentoml) for path in (*(path for _, path in routes), OTHER)}
    found = {**others, SCRAPES: RouteMetrics(SCRAPES, PROTOCOL)}
    others.pop(SCRAPES, None)
    for method, path in routes:
        found[path].begin(method, 200)
    publish_from(IN_FLIGHT.labels(PROTOCOL), lambda: sum(route.running for route in others.values()))
    if bentoml is not None:
        publish_from(bentoml.latest, lambda: _since_epoch(max(route.latest for route in others.values())))
        for path, route in others.items():
            publish_from(bentoml.in_progress(path), partial(getattr, route, "running"))
    return found


def _since_epoch(counter: float) -> float:
    """The seconds since the epoch at a time of `time.perf_counter`; 0 stays 0."""
    return time.time() - (time.perf_counter() - counter) if counter else 0.0
