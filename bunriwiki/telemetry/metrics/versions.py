"""Which versions have series: those in memory, and those that were in memory a short while ago.

A series cannot be deleted from the files of live workers, so the counts of old versions stay there, and a scrape leaves them
out. A version that comes back has its counts again: a counter never goes down between two scrapes, unless all its counts were
dropped with the files of dead workers (`archive.py`), which Prometheus takes for a restart.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from prometheus_client import Gauge

from bunriwiki.telemetry.metrics.values import MAX, Key

KEEP_SECONDS = 900.0  # that the series of a version outlive it: longer than the windows of rates and alerts
MAX_VERSIONS = 16  # of a model that have series at once

Version = tuple[str, str]  # model and version

SEEN = Gauge(
    "bunriwiki_version_seen_timestamp_seconds",
    "When a version was last seen in memory by a scrape, or a gateway worker first used it.",
    ["model", "version"],
    multiprocess_mode=MAX,
)


def mark_seen(versions: Iterable[Version]) -> None:
    """Note that these versions are in memory now."""
    now = time.time()
    for model, version in versions:
        SEEN.labels(model, version).set(now)


def version_of(key: Key) -> Version | None:
    """The version that a sample of this project's own metrics is about; None for other samples."""
    if not key.metric.startswith("bunriwiki_"):
        return None
    labels = dict(key.labels)
    return (labels["model"], labels["version"]) if "model" in labels and "version" in labels else None


def kept_versions(values: Mapping[str, float], now: float) -> set[Version]:
    """The versions that have series, by the values of `SEEN` among `values` (by key)."""
    seen: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for text, value in values.items():
        key = Key.parse(text)
        if key.metric == SEEN._name and (version := version_of(key)) and now - value < KEEP_SECONDS:
            seen[version[0]].append((value, version[1]))
    return {
        (model, version) for model, versions in seen.items() for _, version in sorted(versions, reverse=True)[:MAX_VERSIONS]
    }
