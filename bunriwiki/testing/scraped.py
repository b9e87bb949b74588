"""What a scrape of the service says, and what was counted between two scrapes."""

from __future__ import annotations

from collections import Counter, defaultdict

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.server import Server


class Scraped:
    """The samples of a scrape."""

    def __init__(self, server: Server) -> None:
        self.text = CLIENT.get(f"{server.url}/metrics", timeout=10).text
        self.families: list[Metric] = list(text_string_to_metric_families(self.text))

    def by(self, name: str, *labels: str, **wanted: str) -> Counter[tuple[str, ...]]:
        """The sums of the samples called `bunriwiki_<name>` with the labels `wanted`, by the values of `labels`; no zeros."""
        found: Counter[tuple[str, ...]] = Counter()
        for family in self.families:
            for sample in family.samples:
                if sample.name == f"bunriwiki_{name}" and wanted.items() <= sample.labels.items():
                    found[tuple(sample.labels[label] for label in labels)] += sample.value  # type: ignore[assignment]
        return +found

    def of_models(self, name: str, **wanted: str) -> Counter[str]:
        return Counter({model: int(value) for (model,), value in self.by(name, "model", **wanted).items()})

    def counters(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            if family.type in ("counter", "histogram")
            for sample in family.samples
        }


class ScrapeDifference:
    """What was counted between two scrapes."""

    def __init__(self, before: Scraped, after: Scraped) -> None:
        self._before = before
        self._after = after

    def of_models(self, name: str, **wanted: str) -> Counter[str]:
        return self._after.of_models(name, **wanted) - self._before.of_models(name, **wanted)

    def by(self, name: str, *labels: str, **wanted: str) -> Counter[tuple[str, ...]]:
        return self._after.by(name, *labels, **wanted) - self._before.by(name, *labels, **wanted)

    def failures(self) -> dict[str, Counter[str]]:
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        name = "prediction_failures_total"
        difference = self._after.by(name, "model", "reason") - self._before.by(name, "model", "reason")
        for (model, reason), number in difference.items():
            found[model][reason] += int(number)
        return dict(found)
