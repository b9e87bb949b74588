from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import StoreWriter
from model_sync.admin.commands import Commands
from model_sync.telemetry.store import CAUSES, ROLLBACKS, TRIGGERS, StoreCollector

NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Setup:
    def __init__(self, writer: StoreWriter, make_version: Callable[..., Path]) -> None:
        self.writer = writer
        self.registry = CollectorRegistry()
        self.registry.register(StoreCollector(writer.layout, ["kcbert", "yolo"]))
        for version in ("v1", "v2", "v3"):
            writer.publish(make_version("kcbert", version), "a test", "operator")

    def promote(self, version: str, by: str = "poll") -> None:
        promote(self.writer, "kcbert", version, "a test", by)  # type: ignore[arg-type]

    def quarantine(self, version: str, by: str, cause: str | None) -> None:
        entry = Quarantined(model="kcbert", version=version, digest="d", reason="no", at=NOW)
        self.writer.put_in_quarantine(entry, by, cause=cause)  # type: ignore[arg-type]

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"bunriwiki_{name}", labels)

    def counts(self, name: str) -> dict[tuple[str, ...], float]:
        """The series that are not 0."""
        samples = [sample for family in self.registry.collect() for sample in family.samples]
        found = {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == f"bunriwiki_{name}_total"}
        return {labels: value for labels, value in found.items() if value}


@pytest.fixture
def setup(writer: StoreWriter, make_version: Callable[..., Path]) -> Setup:
    return Setup(writer, make_version)


def test_every_series_exists_from_the_start(setup: Setup) -> None:
    samples = [sample for family in setup.registry.collect() for sample in family.samples]
    for name, labels in (("promotions", TRIGGERS), ("rollbacks", ROLLBACKS), ("quarantines", CAUSES)):
        values = [sample.value for sample in samples if sample.name == f"bunriwiki_{name}_total"]
        assert values == [0] * (2 * len(labels))


def test_promotions_and_rollbacks_are_counted_by_what_caused_them(setup: Setup) -> None:
    setup.promote("v1", "sqs")
    setup.promote("v2")
    setup.quarantine("v2", "monitor", "live_latency")
    setup.promote("v1", "monitor")
    setup.promote("v3")
    Commands(setup.writer).rollback("kcbert")
    assert setup.counts("promotions") == {
        ("kcbert", "sqs"): 1,
        ("kcbert", "poll"): 2,
        ("kcbert", "monitor"): 1,
        ("kcbert", "operator"): 1,
    }
    assert setup.counts("rollbacks") == {("kcbert", "latency"): 1, ("kcbert", "operator"): 1}


def test_quarantines_are_counted_by_cause(setup: Setup) -> None:
    setup.quarantine("v2", "poll", "quality")
    setup.quarantine("v3", "poll", None)  # by an older version of this program
    setup.quarantine("v3", "poll", "astrology")
    assert setup.counts("quarantines") == {("kcbert", "quality"): 1, ("kcbert", "other"): 2}
    assert setup.value("quarantined_versions", model="kcbert") == 2
    Commands(setup.writer).release("kcbert", "v2")
    assert setup.value("quarantined_versions", model="kcbert") == 1
    assert setup.counts("quarantines")["kcbert", "quality"] == 1  # a counter


def test_the_series_of_a_canary_ends_with_it(setup: Setup) -> None:
    target = Target(version="v1", since=NOW, source="a test", by="poll")
    setup.writer.prepare("kcbert", target)
    assert setup.value("canary_share", model="kcbert", version="v1") is None
    setup.writer.start_canary("kcbert", target, Canary(share=0.25))
    assert setup.value("canary_share", model="kcbert", version="v1") == 0.25
    setup.writer.activate("kcbert", target, 0)
    assert setup.value("canary_share", model="kcbert", version="v1") is None


def test_the_disk_of_the_store(setup: Setup) -> None:
    files = [path.stat().st_size for path in setup.writer.layout.root.rglob("*") if path.is_file()]
    assert setup.value("store_size_bytes") == sum(files)
    assert setup.value("store_free_bytes")


def test_a_store_that_cannot_be_read_costs_its_own_metrics_only(setup: Setup) -> None:
    setup.writer.layout.generation.write_text("not: [valid")
    assert setup.value("quarantined_versions", model="kcbert") is None
    assert setup.value("store_free_bytes") is None
    assert setup.value("promotions_total", model="kcbert", by="poll") == 0
