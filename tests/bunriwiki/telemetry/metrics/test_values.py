from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bunriwiki.telemetry.metrics import record_file
from bunriwiki.telemetry.metrics.archive import read_all
from bunriwiki.telemetry.metrics.value_file import read_values
from bunriwiki.telemetry.metrics.values import LIVE_SUM, MAX, RECORDS_SUFFIX, Key, recorder, share_values

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


def test_records_count_as_the_library_does(tmp_path: Path) -> None:
    found = []
    for way in ("records", "library"):
        (tmp_path / way / "gateway").mkdir(parents=True)
        share_values(tmp_path / way / "gateway")
        registry = CollectorRegistry()
        requests = Counter("requests", 'Requests "all".', ["path"], registry=registry).labels('/"초')
        running = Gauge("running", "Running.", ["path"], registry=registry, multiprocess_mode=LIVE_SUM).labels("/a")
        seconds = Histogram("seconds", "Seconds.", ["path"], registry=registry, buckets=(1, 2)).labels('/"초')
        total = Counter("total", "Total.", registry=registry)
        latest = Gauge("latest", "Latest.", ["path"], registry=registry, multiprocess_mode=MAX).labels("/a")
        record = recorder([requests], [seconds, total], [running])
        for value in (0, 0.5, 1, 1.5, 2, 2.1, 9e9):
            latest.set(value)
            if way == "records":
                record(1, value, -1)
            else:
                requests.inc()
                running.dec()
                total.inc(value)
                seconds.observe(value)
        found.append({Key.parse(text): value for text, value in read_all(tmp_path / way).items()})
    assert found[0] == found[1]
    assert {key.labels: value for key, value in found[0].items() if key.sample == "seconds_bucket"} == {
        (("path", '/"초'), ("le", "1.0")): 3, (("path", '/"초'), ("le", "2.0")): 2, (("path", '/"초'), ("le", "+Inf")): 2,
    }  # fmt: skip


def test_a_full_file_of_records_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_file, "VALUES", 3)
    (tmp_path / "gateway").mkdir()
    share_values(tmp_path / "gateway")
    counter = Counter("events", "Events.", ["kind"], registry=CollectorRegistry())
    for record in [recorder([counter.labels(str(kind))]) for kind in range(7)]:
        record(1)
    assert list(read_all(tmp_path).values()) == [1] * 7
    assert len(list(tmp_path.glob(f"gateway/*{RECORDS_SUFFIX}"))) == 3


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
