from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from bunriwiki.telemetry.metrics.archive import merge_dead
from bunriwiki.telemetry.metrics.exposition import exposition
from bunriwiki.telemetry.metrics.value_file import ValueFile
from bunriwiki.telemetry.metrics.values import MAX, Key, share_values
from bunriwiki.telemetry.metrics.versions import KEEP_SECONDS, MAX_VERSIONS
from tests.bunriwiki.telemetry.metrics.files import add, put


def count(root: Path) -> None:
    """What one process counts."""
    share_values(root / "gateway")
    registry = CollectorRegistry()
    Counter("requests", "Requests.", ["path"], registry=registry).labels('/"\\\n').inc(3)
    seconds = Histogram("seconds", "Seconds.", ["path"], registry=registry, buckets=(1, 2)).labels("/a")
    for value in (0.5, 1.5, 1.5, 9):
        seconds.observe(value)


@pytest.mark.usefixtures("unshared")
def test_the_processes_are_summed_up(root: Path) -> None:
    for _ in range(2):
        count(root)
    computed = GaugeMetricFamily("computed", "Computed.", 7)
    text = exposition(root, [computed]).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name: (family.type, family.documentation) for name, family in families.items()} == {
        "requests": ("counter", "Requests."), "seconds": ("histogram", "Seconds."), "computed": ("gauge", "Computed."),
    }  # fmt: skip
    assert [(sample.labels, sample.value) for sample in families["requests"].samples] == [({"path": '/"\\\n'}, 6)]
    assert [(sample.name, sample.labels.get("le"), sample.value) for sample in families["seconds"].samples] == [
        ("seconds_bucket", "1.0", 2), ("seconds_bucket", "2.0", 6), ("seconds_bucket", "+Inf", 8),
        ("seconds_count", None, 8), ("seconds_sum", None, 25),
    ]  # fmt: skip


def test_labels_are_in_one_order(root: Path, worker: Callable[..., ValueFile]) -> None:
    labels = (("status", "200"), ("path", "/a"))
    add(worker(1), Key("counter", "", "requests", "requests_total", labels, "Requests.").text(), 1)
    assert 'requests_total{path="/a",status="200"} 1.0' in exposition(root, []).decode()


def key(name: str, version: str, kind: str = "counter", mode: str = "", suffix: str = "_total") -> str:
    return Key(kind, mode, name, name + suffix, (("model", "yolo"), ("version", version)), "Help.").text()


def test_old_versions_are_left_out(root: Path, worker: Callable[..., ValueFile]) -> None:
    file, now = worker(1), time.time()
    for number in range(MAX_VERSIONS + 5):
        add(file, key("bunriwiki_predictions", f"v{number}"), 1)
        # v0 was seen last, v16 to v20 are beyond the maximum; v3 left memory long ago.
        at = now - number - (KEEP_SECONDS if number == 3 else 0)
        put(file, key("bunriwiki_version_seen_timestamp_seconds", f"v{number}", "gauge", MAX, ""), at)
    add(file, key("model_other", "v3"), 1)

    def versions() -> dict[str, set[str]]:
        families = text_string_to_metric_families(exposition(root, []).decode())
        return {family.name: {sample.labels["version"] for sample in family.samples} for family in families}

    expected = {f"v{number}" for number in range(MAX_VERSIONS + 1)} - {"v3"}
    before = versions()
    assert before["bunriwiki_predictions"] == before["bunriwiki_version_seen_timestamp_seconds"] == expected
    assert before["model_other"] == {"v3"}  # only this project's own metrics end with a version
    merge_dead(root, 1)
    assert versions() == before
