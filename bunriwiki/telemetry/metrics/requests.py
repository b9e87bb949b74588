"""The metrics of requests of all protocols, predictions or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from loguru import logger
from prometheus_client import Counter, Gauge, Histogram

from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics.predictions import PredictionMetrics
from bunriwiki.telemetry.metrics.values import LIVE_SUM, Child, recorder

METHODS = ("GET", "HEAD", "POST")
OTHER = "other"  # the label for methods and paths that the service does not have: a client cannot make up labels

REQUESTS = Counter("http_requests_total", "Requests answered.", ["method", "path", "status", "protocol"])
SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time from the first byte of a request until its answer is ready to be sent.",
    ["method", "path", "protocol"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_FLIGHT = Gauge(
    "bunriwiki_requests_in_flight", "Requests that are being answered, without scrapes.", ["protocol"],
    multiprocess_mode=LIVE_SUM,
)  # fmt: skip

Status: TypeAlias = int | str  # of HTTP, or the name of one of gRPC


class RouteMetrics:
    """The metrics of the requests to one route in one protocol: in `bentoml`, too, unless it is None.

    `running` is the number of requests that are being answered, and `latest` when the last one began, a time of
    `time.perf_counter`. The server changes both. `records` has the functions that count a request, by the arguments of `first`.
    """

    __slots__ = ("_bentoml", "_path", "_protocol", "latest", "records", "running")

    def __init__(self, path: str, protocol: str, bentoml: BentoMetrics | None = None) -> None:
        self._path = path
        self._protocol = protocol
        self._bentoml = bentoml
        self.running = 0
        self.latest = 0.0
        self.records: dict[tuple[object, ...], Callable[..., None]] = {}

    def begin(self, method: str, status: Status) -> list[list[Child]]:
        """Create the series of answers with a status. Returns what their number changes, and what their seconds change."""
        labels = {"method": method, "path": self._path, "protocol": self._protocol}
        numbers: list[Child] = [REQUESTS.labels(**labels, status=status)]
        seconds: list[Child] = [SECONDS.labels(**labels)]
        if self._bentoml is not None:
            number, duration = self._bentoml.answered(self._path, status)
            numbers.append(number)
            seconds.append(duration)
        return [numbers, seconds]

    def first(
        self, method: str, status: Status, model: PredictionMetrics | None = None, version: str = ""
    ) -> Callable[..., None]:
        """What counts an answered request of this kind: by the number 1, its seconds, and the amounts of `model.answer`.

        Without `model`, no model has answered, and there are two amounts only. If there is no disk for further series, the
        request is not counted: its answer matters more.
        """
        method = method if method in METHODS else OTHER  # there are any number of others
        key = (method, status) if model is None else (method, status, model, version)
        found = self.records.get(key)
        if found is None:
            try:
                answer = () if model is None else model.answer(version)
                found = self.records[key] = recorder(*self.begin(method, status), *answer)
            except OSError as error:
                logger.error("{} answers of {} are not counted: {}", status, self._path, error)
                return _not_counted
        return found


def _not_counted(*_: float) -> None:
    pass


class MessageMetrics(RouteMetrics):
    """The metrics of the messages of a stream: only their predictions count, because the stream is one request."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("", "")

    def begin(self, method: str, status: Status) -> list[list[Child]]:  # noqa: ARG002 - a message has no series of its own
        return [[], []]
