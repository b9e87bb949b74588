"""The metrics of requests of all protocols, predictions or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from bunriwiki.telemetry.metrics.values import LIVE_SUM, recorder

REQUESTS = Counter("http_requests_total", "Requests answered.", ["method", "path", "status", "protocol"])
SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time from the first byte of a request to the last byte of its answer.",
    ["method", "path", "protocol"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_FLIGHT = Gauge(
    "bunriwiki_requests_in_flight", "Requests that are being answered, without scrapes.", ["protocol"],
    multiprocess_mode=LIVE_SUM,
)  # fmt: skip


def begin_with_routes(routes: Iterable[tuple[str, str]], protocol: str, success: str) -> None:
    """Create the series of these methods and paths; `success` is the status of a successful call in this protocol."""
    for method, path in routes:
        series_of(method, path, success, protocol)


def count_request(method: str, path: str, status: str, protocol: str, seconds: float) -> None:
    """Count an answered request. `path` must be the route, not the path that the client sent."""
    _recorder(method, path, status, protocol)(1, seconds)


def series_of(method: str, path: str, status: str, protocol: str) -> tuple[Counter, Histogram]:
    """The number and the durations of answered requests (see `count_request`)."""
    return REQUESTS.labels(method, path, status, protocol), SECONDS.labels(method, path, protocol)


@cache  # one entry per series
def _recorder(method: str, path: str, status: str, protocol: str) -> Callable[..., None]:
    return recorder(*series_of(method, path, status, protocol))
