"""The metrics of all processes as a scrape shows them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from bunriwiki.telemetry.metrics.archive import read_all
from bunriwiki.telemetry.metrics.values import Key
from bunriwiki.telemetry.metrics.versions import Version, kept_versions, version_of

BOUND = "le"  # the label of a histogram's bucket

Labels = tuple[tuple[str, str], ...]


def exposition(root: Path, computed: Iterable[Metric]) -> bytes:
    """The text of a scrape: the values in the folder `root`, summed up, and the metrics that were computed for this scrape."""
    values = read_all(root)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families([*families(values, kept_versions(values, time.time())), *computed]))
    return generate_latest(registry)


def families(values: Mapping[str, float], kept: set[Version]) -> Iterator[Metric]:
    """The metrics that `values` (by key) belong to, without those of versions that are not among `kept`."""
    found: dict[str, Metric] = {}
    histograms: dict[str, dict[Labels, _Histogram]] = {}
    for text, value in values.items():
        key = Key.parse(text)
        version = version_of(key)
        if version is not None and version not in kept:
            continue
        family = found.get(key.metric)
        if family is None:
            family = found[key.metric] = Metric(key.metric, key.help, key.kind)
        if key.kind != "histogram":
            family.add_sample(key.sample, dict(key.labels), value)
        elif key.labels and key.labels[-1][0] == BOUND:
            series = histograms.setdefault(key.metric, {}).setdefault(key.labels[:-1], _Histogram())
            series.counts[float(key.labels[-1][1])] = value
        else:
            histograms.setdefault(key.metric, {}).setdefault(key.labels, _Histogram()).sum = value
    for metric, by_labels in histograms.items():
        for labels, histogram in by_labels.items():
            histogram.add_to(found[metric], dict(labels))
    yield from found.values()


@dataclass(slots=True)
class _Histogram:
    """One series: the sum, and the count in each bucket by its upper bound."""

    sum: float = 0.0
    counts: dict[float, float] = field(default_factory=dict)

    def add_to(self, family: Metric, labels: dict[str, str]) -> None:
        below = 0.0
        for bound, count in sorted(self.counts.items()):
            below += count
            family.add_sample(f"{family.name}_bucket", {**labels, BOUND: floatToGoString(bound)}, below)
        family.add_sample(f"{family.name}_count", labels, below)
        family.add_sample(f"{family.name}_sum", labels, self.sum)


class _Families(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
