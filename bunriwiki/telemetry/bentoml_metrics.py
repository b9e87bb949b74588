"""The metrics of BentoML's own middleware, so that dashboards made for BentoML show this service.

Names, labels and meaning are BentoML's (`bentoml/_internal/server/http/instruments.py`), except for `endpoint`: it is the route
here, while BentoML takes the path, so that clients can create any number of series.
"""

from __future__ import annotations

from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.context import server_context
from prometheus_client import Counter, Gauge, Histogram

from bunriwiki.telemetry.metrics.values import LIVE_SUM, MAX

NAMESPACE = "bentoml_service"
SERVICE = ("service_name", "service_version", "runner_name")


class BentoMetrics:
    """Counts requests as BentoML does, in one event loop. Create it once, in the worker: there BentoML knows its service."""

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
        self.latest = latest.labels(**self._service)  # when the last request began

    def in_progress(self, endpoint: str) -> Gauge:
        """The number of requests to a route that are being answered."""
        return self._in_progress.labels(endpoint=endpoint, **self._service)

    def answered(self, endpoint: str, status: int | str) -> tuple[Counter, Histogram]:
        """The number and the durations of answers with a status."""
        labels = {"endpoint": endpoint, "http_response_code": status, **self._service}
        return self._total.labels(**labels), self._seconds.labels(**labels)
