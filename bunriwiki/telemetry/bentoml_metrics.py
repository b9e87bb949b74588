"""The metrics of BentoML's own middleware, so that dashboards made for BentoML show this service.

Names, labels and meaning are BentoML's (`bentoml/_internal/server/http/instruments.py`), except for `endpoint`: it is the route
here, while BentoML takes the path, so that clients can create any number of series.
"""

from __future__ import annotations

import time

from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.context import server_context
from prometheus_client import Counter, Gauge, Histogram

from bunriwiki.telemetry.metrics.values import LIVE_SUM, MAX

NAMESPACE = "bentoml_service"
SERVICE = ("service_name", "service_version", "runner_name")


class BentoMetrics:
    """Counts requests as BentoML does. Create it once, in the worker: there BentoML knows the service's name and version."""

    def __init__(self) -> None:
        self._service = {
            "service_name": server_context.bento_name,
            "service_version": server_context.bento_version,
            "runner_name": server_context.service_name,
        }
        answered = ("endpoint", *SERVICE, "http_response_code")
        self._total = Counter("request_total", "Total number of runner RPC", answered, NAMESPACE)
        self._seconds = Histogram(
            "request_duration_seconds", "runner RPC duration in seconds", answered, NAMESPACE,
            buckets=BentoMLContainer.duration_buckets.get(),
        )  # fmt: skip
        self._in_progress = Gauge(
            "request_in_progress", "Total number of runner RPC in progress now", ("endpoint", *SERVICE), NAMESPACE,
            multiprocess_mode=LIVE_SUM,
        )  # fmt: skip
        latest = Gauge(
            "last_request_timestamp_seconds", "Timestamp of the last received request", SERVICE, NAMESPACE,
            multiprocess_mode=MAX,  # BentoML has a series for each process that there ever was
        )  # fmt: skip
        self._latest = latest.labels(**self._service)
        self._running: dict[str, Gauge] = {}
        self._answered: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def begin(self, endpoint: str) -> None:
        """Count a request that begins. `endpoint` is its route."""
        running = self._running.get(endpoint)
        if running is None:
            running = self._running[endpoint] = self._in_progress.labels(endpoint=endpoint, **self._service)
        running.inc()
        self._latest.set(time.time())

    def end(self, endpoint: str, status: int, seconds: float) -> None:
        """Count the answer to a request that has begun, and its duration in seconds."""
        self._running[endpoint].dec()
        self.existing(endpoint, status)
        total, duration = self._answered[endpoint, status]
        total.inc()
        duration.observe(seconds)

    def existing(self, endpoint: str, status: int) -> None:
        """Create the series of a route and a status."""
        if (endpoint, status) not in self._answered:
            labels = {"endpoint": endpoint, "http_response_code": status, **self._service}
            self._answered[endpoint, status] = self._total.labels(**labels), self._seconds.labels(**labels)
