"""The Prometheus metrics of the service, in addition to BentoML's.

The counters use `prometheus_client`'s multiprocess mode: each process counts in a file of its own in
`PROMETHEUS_MULTIPROC_DIR`, the files of dead workers stay, and `/metrics` returns the sums, so no count is lost when a worker
dies. A labelled series exists once its first child does, so the children are created at the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

REQUESTS = Counter("http_requests_total", "Requests answered.", ["method", "path", "status", "protocol"])
SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time from the first byte of a request to the last byte of its answer.",
    ["method", "path", "protocol"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
LOADS = Counter("model_load_total", "Loads of a version that a worker started.", ["model"])
LOADED = Counter("model_load_success_total", "Loads of a version that a worker completed.", ["model"])
SWAPS = Counter("model_hot_swap_total", "Changes of the version that a worker answers with, without a restart.", ["model"])


def begin_with_models(models: Iterable[str]) -> None:
    """Create the series of these models."""
    for model in models:
        for counter in (LOADS, LOADED, SWAPS):
            counter.labels(model)


def begin_with_routes(routes: Iterable[tuple[str, str]], protocol: str, success: str) -> None:
    """Create the series of these methods and paths; `success` is the status of a successful call in this protocol."""
    for method, path in routes:
        _series(method, path, success, protocol)


def count_request(method: str, path: str, status: str, protocol: str, seconds: float) -> None:
    """Count an answered request. `path` must be the route, not the path that the client sent."""
    requests, duration = _series(method, path, status, protocol)
    requests.inc()
    duration.observe(seconds)


@cache  # one entry per series
def _series(method: str, path: str, status: str, protocol: str) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, path, status, protocol), SECONDS.labels(method, path, protocol)


def version_info(serving: Mapping[str, Mapping[str, bool]]) -> str:
    """`model_version_info` as text: by model and version, 1 if the version serves and 0 if it does not.

    It is computed at each scrape: in multiprocess mode a gauge would keep the values of dead workers.
    """
    registry = CollectorRegistry()
    registry.register(_VersionInfo(serving))
    return generate_latest(registry).decode()


class _VersionInfo(Collector):
    def __init__(self, serving: Mapping[str, Mapping[str, bool]]) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "model_version_info", "1 for the versions that serve, 0 for the others.", labels=["model", "version"]
        )
        for model, versions in self._serving.items():
            for version, serves in versions.items():
                family.add_metric([model, version], float(serves))
        yield family
