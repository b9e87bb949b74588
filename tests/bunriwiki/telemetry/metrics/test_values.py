from __future__ import annotations

import os
import threading
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from bunriwiki.telemetry.metrics.value_file import read_values
from bunriwiki.telemetry.metrics.values import LIVE_SUM, Additions, Histogram, Key, share_values

pytestmark = pytest.mark.usefixtures("unshared")


def shared(folder: Path) -> dict[Key, float]:
    [file] = folder.iterdir()
    assert file.name.startswith(f"{os.getpid()}-")
    return {Key.parse(text): value for text, value in read_values(file, 2**20).items()}


def test_metrics_of_the_library_count_in_the_file(tmp_path: Path) -> None:
    share_values(tmp_path)
    assert list(tmp_path.iterdir()) == []  # a process that counts nothing has no file
    registry = CollectorRegistry()
    Counter("requests", "Requests.", ["path"], registry=registry).labels("/a").inc(3)
    running = Gauge("running", "Running.", registry=registry, multiprocess_mode=LIVE_SUM)
    running.inc(2)
    running.dec()
    Histogram("seconds", "Seconds.", registry=registry, buckets=(1, 2)).observe(1.5)
    assert shared(tmp_path) == {
        Key("counter", "", "requests", "requests_total", (("path", "/a"),), "Requests."): 3,
        Key("gauge", "livesum", "running", "running", (), "Running."): 1,
        Key("histogram", "", "seconds", "seconds_sum", (), "Seconds."): 1.5,
        Key("histogram", "", "seconds", "seconds_bucket", (("le", "1.0"),), "Seconds."): 0,
        Key("histogram", "", "seconds", "seconds_bucket", (("le", "2.0"),), "Seconds."): 1,
        Key("histogram", "", "seconds", "seconds_bucket", (("le", "+Inf"),), "Seconds."): 0,
    }
    assert registry.get_sample_value("requests_total", {"path": "/a"}) == 3


def test_additions_are_the_same_as_single_changes(tmp_path: Path) -> None:
    registries = []
    for together in (True, False):
        (tmp_path / str(together)).mkdir()
        share_values(tmp_path / str(together))
        registry = CollectorRegistry()
        requests = Counter("requests", "Requests.", ["path"], registry=registry).labels("/a")
        running = Gauge("running", "Running.", ["path"], registry=registry, multiprocess_mode=LIVE_SUM).labels("/a")
        seconds = Histogram("seconds", "Seconds.", ["path"], registry=registry, buckets=(1, 2)).labels("/a")
        ended = Additions([requests, running], [seconds])
        for value in (0.5, 1, 1.5, 9):
            if together:
                ended.add((1, -1), (value,))
            else:
                requests.inc()
                running.dec()
                seconds.observe(value)
        registries.append(shared(tmp_path / str(together)))
    assert registries[0] == registries[1]
    assert sum(registries[0].values()) == 4 - 4 + 12 + 4


@pytest.mark.parametrize(("value", "bound"), [(-1, "1.0"), (1, "1.0"), (1.5, "2.0"), (2, "2.0"), (2.1, "+Inf"), (9e9, "+Inf")])
def test_an_observation_is_in_the_bucket_that_the_library_takes(value: float, bound: str) -> None:
    share_values(None)
    found = []
    for kind in (Histogram, prometheus_client.Histogram):
        registry = CollectorRegistry()
        kind("seconds", "Seconds.", registry=registry, buckets=(1, 2)).observe(value)
        found.append(
            [
                (sample.name, sample.labels, sample.value)
                for family in registry.collect()
                for sample in family.samples
                if not sample.name.endswith("created")
            ]
        )
    assert found[0] == found[1]
    counts = {labels["le"]: count for name, labels, count in found[0] if name.endswith("bucket")}
    assert next(upper for upper, count in counts.items() if count) == bound


def test_threads_lose_no_increment(tmp_path: Path) -> None:
    share_values(tmp_path)
    counter = Counter("events", "Events.", registry=CollectorRegistry())

    def count() -> None:
        for _ in range(20_000):
            counter.inc()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(shared(tmp_path).values()) == [80_000]
