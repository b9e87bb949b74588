"""What Prometheus is told, beside BentoML's own metrics.

The counters live in `prometheus_client`'s multiprocess mode: each process counts in a file of its own in
`PROMETHEUS_MULTIPROC_DIR`, the files of dead workers stay, and `/metrics` gives the sums; so they are exact whichever workers
died. A labelled series exists from its first child on, so the children are made at the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

REQUESTS = Counter("http_requests_total", "Requests answered.", ["method", "path", "status", "door"])
SECONDS = Histogram(
    "http_request_duration_seconds",
    "From a request's first byte to the last of its answer.",
    ["method", "path", "door"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
LOADS = Counter("model_load_total", "Loads of a version that a worker began.", ["model"])
LOADED = Counter("model_load_success_total", "Loads of a version that a worker brought to an end.", ["model"])
SWAPS = Counter("model_hot_swap_total", "Changes of the version that a worker answers with, without a restart.", ["model"])


def begin_with_models(models: Iterable[str]) -> None:
    """Have the series of these models exist."""
    for model in models:
        for counter in (LOADS, LOADED, SWAPS):
            counter.labels(model)


def begin_with_routes(routes: Iterable[tuple[str, str]], door: str, success: str) -> None:
    """Have the series of these methods and paths exist; `success` is the door's status of an answered call."""
    for method, path in routes:
        _series(method, path, success, door)


def count_request(method: str, path: str, status: str, door: str, seconds: float) -> None:
    """Count an answered request. `path` is the route, never what a client made up."""
    requests, duration = _series(method, path, status, door)
    requests.inc()
    duration.observe(seconds)


@cache  # there are as many as there are series
def _series(method: str, path: str, status: str, door: str) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, path, status, door), SECONDS.labels(method, path, door)


def version_info(serving: Mapping[str, Mapping[str, bool]]) -> str:
    """`model_version_info` as text: for every model and version, 1 when it serves and 0 when it no longer does.

    It is computed at each scrape: a gauge of the multiprocess mode would keep what dead workers said.
    """
    registry = CollectorRegistry()
    registry.register(_VersionInfo(serving))
    return generate_latest(registry).decode()


class _VersionInfo(Collector):
    def __init__(self, serving: Mapping[str, Mapping[str, bool]]) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "model_version_info", "1 for the version that serves, 0 for one that no longer does.", labels=["model", "version"]
        )
        for model, versions in self._serving.items():
            for version, serves in versions.items():
                family.add_metric([model, version], float(serves))
        yield family
