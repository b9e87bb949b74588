"""What the store knows, as metrics. It is read at each scrape, so the counts are exact over restarts of the sidecar."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import get_args

from loguru import logger
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bunriwiki.model_store.generation import GenerationError, Generations, Trigger
from bunriwiki.model_store.history import History
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.quarantine import Quarantine

TRIGGERS: tuple[str, ...] = get_args(Trigger)
OTHER = "other"  # a cause that is not listed here, or that an older version of this program did not record
GATES = ("labels", "agreement", "quality", "batches", "latency")
LIVE = ("live_errors", "live_latency", "live_workers", "live_shadow", "live_quality")
CAUSES = (*GATES, *LIVE, "signature", "artifact", "crash", "load", "operator", OTHER)
ROLLBACKS = ("operator", "errors", "latency", "workers", "quality", OTHER)


class StoreCollector(Collector):
    """The metrics of the store at `layout` for `models`.

    Promotions, rollbacks and quarantines are counted in the history, from the store's first day. A rollback by the monitor has
    the cause of the quarantine before it.
    """

    def __init__(self, layout: Layout, models: Collection[str]) -> None:
        self._layout = layout
        self._models = models
        self._size = -1  # of the history when it was counted
        self._counts: tuple[Counter[tuple[str, str]], ...] = ()

    def describe(self) -> list[Metric]:
        """Nothing: to register the collector must not read the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            yield from self._of_history()
            yield from self._of_generations()
            yield from self._of_disk()
        except (GenerationError, OSError) as error:  # the other metrics are still worth a scrape; these are absent
            logger.error("the metrics of the store cannot be read: {}", error)

    def _of_history(self) -> Iterator[Metric]:
        promotions, rollbacks, quarantines = self._count_history()
        for name, documentation, label, values, counts in (
            ("promotions", "Activations of a version, by what triggered them.", "by", TRIGGERS, promotions),
            ("rollbacks", "Versions that were left for the previous one, by reason.", "reason", ROLLBACKS, rollbacks),
            ("quarantines", "Versions that were put into quarantine, by reason.", "reason", CAUSES, quarantines),
        ):
            family = CounterMetricFamily(f"bunriwiki_{name}", documentation, labels=["model", label])
            for model in self._models:
                for value in values:
                    family.add_metric([model, value], counts[model, value])
            yield family

    def _count_history(self) -> tuple[Counter[tuple[str, str]], ...]:
        size = self._layout.history.stat().st_size if self._layout.history.exists() else 0
        if size != self._size:  # it is only appended to
            self._counts = _count(History(self._layout.history))
            self._size = size
        return self._counts

    def _of_generations(self) -> Iterator[Metric]:
        generations = Generations.read(self._layout.generation)
        quarantined = Counter(entry.model for entry in Quarantine(self._layout.quarantine).all())
        family = GaugeMetricFamily("bunriwiki_quarantined_versions", "Versions in quarantine.", labels=["model"])
        for model in self._models:
            family.add_metric([model], quarantined[model])
        yield family
        family = GaugeMetricFamily(
            "bunriwiki_canary_share", "Share of the batches that a canary or shadow gets.", labels=["model", "version"]
        )
        for model in self._models:
            now = generations.of(model)
            if now.canary and now.preparing:
                family.add_metric([model, now.preparing.version], now.canary.share)
        yield family

    def _of_disk(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "bunriwiki_store_free_bytes", "Free space on the disk of the store.", shutil.disk_usage(self._layout.root).free
        )
        yield GaugeMetricFamily("bunriwiki_store_size_bytes", "Size of all files in the store.", _size(self._layout.root))


def _count(history: History) -> tuple[Counter[tuple[str, str]], ...]:
    """Promotions, rollbacks and quarantines, each by model and label."""
    promotions, rollbacks, quarantines = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    exceeded: dict[str, str] = {}  # by model: the cause of the monitor's last quarantine
    for event in history.read():
        if event.kind == "activated":
            promotions[event.model, event.by or OTHER] += 1
            if event.by == "monitor":
                limit = exceeded.get(event.model, "").removeprefix("live_")
                rollbacks[event.model, limit if limit in ROLLBACKS else OTHER] += 1
        elif event.kind == "held":
            rollbacks[event.model, "operator"] += 1
        elif event.kind == "quarantined":
            quarantines[event.model, event.cause if event.cause in CAUSES else OTHER] += 1
            if event.by == "monitor":
                exceeded[event.model] = event.cause or ""
    return promotions, rollbacks, quarantines


def _size(root: Path) -> int:
    """The size of all files below `root` in bytes. Files that vanish meanwhile do not count."""
    return sum(_size_of(Path(folder, name)) for folder, _, names in os.walk(root) for name in names)


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
