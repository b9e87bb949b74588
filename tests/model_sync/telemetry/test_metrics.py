from __future__ import annotations

import pytest

from bunriwiki import __version__
from bunriwiki.model_store.promotion import PromotionError
from bunriwiki.model_store.writer import SupersededError
from model_sync.telemetry.metrics import OUTCOMES, PHASES, SyncMetrics


@pytest.fixture
def metrics() -> SyncMetrics:
    return SyncMetrics(["yolo"])


def test_every_series_of_a_model_exists_from_the_start(metrics: SyncMetrics) -> None:
    for outcome in OUTCOMES:
        labels = {"model": "yolo", "outcome": outcome}
        assert metrics.registry.get_sample_value("bunriwiki_imports_total", labels) == 0
    for phase in PHASES:
        labels = {"model": "yolo", "phase": phase}
        assert metrics.registry.get_sample_value("bunriwiki_import_phase_duration_seconds_count", labels) == 0


def test_the_parts_of_a_phase_are_not_counted(metrics: SyncMetrics) -> None:
    before = sum(1 for family in metrics.registry.collect() for _ in family.samples)
    metrics.took("yolo", "compile: export", 3)
    assert sum(1 for family in metrics.registry.collect() for _ in family.samples) == before
    metrics.took("yolo", "compile", 3)
    labels = {"model": "yolo", "phase": "compile"}
    assert metrics.registry.get_sample_value("bunriwiki_import_phase_duration_seconds_sum", labels) == 3


def test_an_import_that_another_version_superseded_is_cancelled(metrics: SyncMetrics) -> None:
    with pytest.raises(PromotionError), metrics.count_failed_import("yolo"):
        raise PromotionError("no longer wanted") from SupersededError("no longer wanted")
    labels = {"model": "yolo", "outcome": "cancelled"}
    assert metrics.registry.get_sample_value("bunriwiki_imports_total", labels) == 1


def test_the_version_of_the_sidecar(metrics: SyncMetrics) -> None:
    [family] = [family for family in metrics.registry.collect() if family.name == "bunriwiki_sync_build_info"]
    assert [(sample.labels["version"], sample.value) for sample in family.samples] == [(__version__, 1)]
