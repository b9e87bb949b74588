"""The metrics of all processes as a scrape shows them: Prometheus' text format.

`prometheus_client.generate_latest` writes the metrics that are computed for a scrape. For the thousands of shared values it
would take most of a scrape's time: it checks and escapes every label of every sample anew, which is done once per key here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from bunriwiki.telemetry.metrics.archive import read_all
from bunriwiki.telemetry.metrics.values import BOUND, Key
from bunriwiki.telemetry.metrics.versions import Version, kept_versions, version_of

ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
ESCAPED_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


def exposition(root: Path, computed: Iterable[Metric]) -> bytes:
    """The text of a scrape: the values in the folder `root`, summed up, and the metrics that were computed for this scrape."""
    values = read_all(root)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Computed(computed))
    return "".join(lines(values, kept_versions(values, time.time()))).encode() + generate_latest(registry)


def lines(values: Mapping[str, float], kept: set[Version]) -> Iterator[str]:
    """The text of `values` (by key), without those of versions that are not among `kept`."""
    metrics: dict[str, list[str]] = {}
    histograms: dict[str, dict[str, dict[float | None, float]]] = {}  # by metric, labels and upper bound, None for the sum
    for text, value in values.items():
        series = _series(text)
        if series.version is not None and series.version not in kept:
            continue
        if series.metric not in metrics:
            metrics[series.metric] = [series.head]
        if series.is_histogram:
            histograms.setdefault(series.metric, {}).setdefault(series.labels, {})[series.bound] = value
        else:
            metrics[series.metric].append(f"{series.sample}{_braced(series.labels)} {value!r}\n")
    for metric, samples in metrics.items():
        yield from samples
        for labels, counts in histograms.get(metric, {}).items():
            yield from _histogram(metric, labels, counts)


def _histogram(metric: str, labels: str, counts: dict[float | None, float]) -> Iterator[str]:
    """The samples of one series; `counts` has the observations in each bucket, and under None the sum of all."""
    total = counts.pop(None, 0.0)
    below = 0.0
    for bound in sorted(bound for bound in counts if bound is not None):
        below += counts[bound]
        inner = f'{labels}{"," if labels else ""}{BOUND}="{floatToGoString(bound)}"'
        yield f"{metric}_bucket{{{inner}}} {below!r}\n"
    yield f"{metric}_count{_braced(labels)} {below!r}\n{metric}_sum{_braced(labels)} {total!r}\n"


class _Series(NamedTuple):
    """What the text of a sample consists of. `head` introduces its metric, `labels` has no braces and no bound."""

    metric: str
    head: str
    is_histogram: bool
    sample: str
    labels: str
    bound: float | None
    version: Version | None


@lru_cache(maxsize=2**15)
def _series(text: str) -> _Series:
    key = Key.parse(text)
    name = f"{key.metric}_total" if key.kind == "counter" else key.metric
    head = f"# HELP {name} {key.help.translate(ESCAPED_HELP)}\n# TYPE {name} {key.kind}\n"
    is_histogram = key.kind == "histogram"
    labels = ",".join(
        f'{label}="{value.translate(ESCAPED)}"' for label, value in sorted(key.labels) if not (is_histogram and label == BOUND)
    )
    bound = dict(key.labels).get(BOUND) if is_histogram else None
    return _Series(key.metric, head, is_histogram, key.sample, labels, None if bound is None else float(bound), version_of(key))


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


class _Computed(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
