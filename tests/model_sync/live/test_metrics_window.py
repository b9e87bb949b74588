from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats, Served, Shadowed
from model_sync.live.analysis import LiveMetrics
from model_sync.live.metrics_window import MetricsWindow


class Workers:
    """Heartbeats as a test writes them, and the time that a window sees."""

    def __init__(self, folder: Path) -> None:
        self._passed = 0.0  # seconds
        self.heartbeats = Heartbeats(folder, monotonic=lambda: self._passed)
        self._folder = folder

    def write(self, worker: str, *, role: str = "kcbert", parent: int = 1, **fields: Any) -> None:
        """`v1` and `v2`: how many inputs the worker has answered with them."""
        counted = {version: served(fields.pop(version)) for version in ("v1", "v2") if version in fields}
        all_fields = {"state": "ready", "loaded": {"v1": "available", "v2": "available"}, "served": counted, **fields}
        self.heartbeats.write(Heartbeat(worker=worker, pid=1, parent=parent, role=role, **all_fields))

    def die(self, worker: str) -> None:
        self.heartbeats.forget(worker)

    def date(self, worker: str, at: float) -> None:
        """The last heartbeat has this time, in seconds since the epoch."""
        path = self._folder / f"{worker}.json"
        last = Heartbeat.model_validate_json(path.read_bytes())
        path.write_text(last.model_copy(update={"at": at}).model_dump_json())

    def pass_time(self, seconds: float) -> None:
        self._passed += seconds

    def window(self, stuck: float = 30) -> MetricsWindow:
        return MetricsWindow(self.heartbeats, "kcbert", "v2", "v1", stuck, now=lambda: self._passed)


def served(inputs: int) -> Served:
    return Served(inputs=inputs, failures=inputs // 10, batches=inputs // 2, seconds=inputs / 64)


@pytest.fixture
def workers(tmp_path: Path) -> Workers:
    return Workers(tmp_path)


def test_only_what_happens_within_the_window_counts(workers: Workers) -> None:
    workers.write("one", v1=1000, v2=100)
    workers.write("two", v1=500)
    window = workers.window()
    assert window.served_before_window().inputs == 1500
    assert window.read().served == Served()
    workers.write("one", v1=1020, v2=140)
    workers.write("two", v1=500, v2=60)
    found = window.read()
    assert (found.served, found.served_before) == (served(100), served(20))
    assert window.read(served(1500)).served_before == served(1500)


def test_a_worker_that_was_started_again_begins_at_zero(workers: Workers) -> None:
    workers.write("one", v2=100)
    window = workers.window()
    workers.write("one", v2=120)
    window.read()
    workers.die("one")
    workers.write("one again", v2=30)
    assert window.read().served.inputs == 50


def test_a_version_whose_counts_a_worker_dropped_begins_at_zero(workers: Workers) -> None:
    workers.write("one", v2=100)
    window = workers.window()
    workers.write("one", v2=40)
    assert window.read().served.inputs == 40


def test_other_models_do_not_count(workers: Workers) -> None:
    window = workers.window()
    workers.write("other", role="yolo", v2=100, busy_with="v2", busy_since=1.0)
    assert window.read() == LiveMetrics("v2", "v1", Served(), Served())


def test_comparisons_come_from_the_gateways(workers: Workers) -> None:
    workers.write("gateway", role="gateway", shadowed={"kcbert:v2": Shadowed(inputs=10, differing=5)})
    window = workers.window()
    both = {"kcbert:v2": Shadowed(inputs=30, differing=6), "yolo:v2": Shadowed(inputs=7, differing=7)}
    workers.write("gateway", role="gateway", shadowed=both)
    workers.write("another", role="gateway", shadowed={"kcbert:v2": Shadowed(inputs=3, differing=2)})
    assert window.read().shadowed == Shadowed(inputs=23, differing=3)


@pytest.mark.parametrize(("version", "seconds", "stuck"), [("v2", 20, 1), ("v2", 5, 0), ("v1", 20, 0), (None, 20, 0)])
def test_a_worker_that_is_busy_for_too_long_is_stuck(workers: Workers, version: str | None, seconds: int, stuck: int) -> None:
    window = workers.window(stuck=10)
    for _ in range(seconds + 1):
        workers.write("one", busy_with=version, busy_since=1.0 if version else None)
        found = window.read()
        workers.pass_time(1)
    assert found.stuck == stuck


def test_a_worker_that_begins_another_batch_is_not_stuck(workers: Workers) -> None:
    window = workers.window(stuck=10)
    for second in range(30):
        workers.write("one", busy_with="v2", busy_since=float(1 + second // 8))
        assert window.read().stuck == 0
        workers.pass_time(1)


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_makes_no_batch_long_and_no_worker_dead(workers: Workers, jump: float) -> None:
    workers.write("one")
    workers.write("gateway", role="gateway")
    window = workers.window(stuck=10)
    began = time.time()
    workers.write("one", busy_with="v2", busy_since=began)
    window.read()
    for name in ("one", "gateway"):
        workers.pass_time(1)
        fields: dict[str, Any] = {"busy_with": "v2", "busy_since": began} if name == "one" else {"role": "gateway"}
        workers.write(name, **fields)
        workers.date(name, began + jump)
        found = window.read()
        assert (found.stuck, found.deaths) == (0, 0)


def test_a_batch_counts_from_the_beginning_of_the_window_at_the_earliest(workers: Workers) -> None:
    window = workers.window(stuck=10)
    workers.write("one", busy_with="v2", busy_since=time.time() - 60)
    assert window.read().stuck == 0


def test_a_worker_that_has_just_died_is_not_stuck(workers: Workers) -> None:
    window = workers.window(stuck=10)
    workers.write("one", busy_with="v2", busy_since=time.time())
    window.read()
    workers.pass_time(60)
    assert window.read().stuck == 0


@pytest.mark.parametrize(("seconds", "stuck"), [(40, 1), (20, 0)])
def test_a_worker_that_falls_silent_is_stuck(workers: Workers, seconds: int, stuck: int) -> None:
    """Code that does not release the interpreter also stops the heartbeat."""
    workers.write("one")
    window = workers.window(stuck=30)
    for _ in range(seconds):
        workers.pass_time(1)
        workers.write("gateway", role="gateway")
        found = window.read()
    assert (found.stuck, found.deaths) == (stuck, 0)


def test_workers_that_die_and_are_started_again_are_counted(workers: Workers) -> None:
    workers.write("one")
    workers.write("two")
    window = workers.window()
    counted = []
    for old, new in (("one", "three"), ("three", "four"), ("two", "five")):
        workers.die(old)
        window.read()
        workers.write(new, state="starting", loaded={})
        counted.append(window.read().deaths)
    assert counted == [1, 2, 3]


def test_a_service_that_is_stopped_loses_no_workers(workers: Workers) -> None:
    workers.write("one")
    workers.write("two")
    window = workers.window(stuck=0)
    workers.die("one")
    window.read()
    workers.die("two")
    assert (window.read().deaths, window.read().stuck) == (0, 0)


def test_a_service_that_replaces_another_one_restarts_no_workers(workers: Workers) -> None:
    for worker in ("one", "two", "three"):
        workers.write(worker)
    window = workers.window()
    for number, worker in enumerate(("one", "two", "three")):
        workers.write(f"new {number}", parent=2)
        window.read()
        workers.die(worker)
        window.read()
    assert window.read().deaths == 0


@pytest.mark.parametrize("fields", [{"state": "ending"}, {"loaded": {"v1": "available", "v2": "loading"}}])
def test_a_worker_that_ends_itself_or_was_too_late_has_not_died(workers: Workers, fields: dict[str, Any]) -> None:
    workers.write("one", **fields)
    workers.write("two")
    window = workers.window()
    window.read()
    workers.die("one")
    workers.write("three")
    assert (window.read().deaths, window.read().stuck) == (0, 0)


class Ticks(threading.Event):
    """Never set; calls `tick` with the number of the wait, in place of waiting."""

    def __init__(self, tick: Callable[[int], None]) -> None:
        super().__init__()
        self._tick = tick
        self.number = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.number += 1
        self._tick(self.number)
        return False


def test_the_last_batches_are_counted_before_the_metrics_are_read(workers: Workers) -> None:
    """The worker answers until its third heartbeat, and is busy with a last batch in its fourth."""
    workers.write("one", v1=10, v2=10)
    window = workers.window()

    def beat(number: int) -> None:
        workers.pass_time(3)
        busy: dict[str, Any] = {"busy_with": "v2", "busy_since": time.time()} if number == 4 else {}
        workers.write("one", v1=10, v2=10 + 10 * min(number, 3) + 5 * (number > 4), **busy)
        workers.date("one", time.time() + 3 * number)

    ticks = Ticks(beat)
    assert window.read_when_settled(60, ticks).served.inputs == 35
    assert ticks.number == 6


def test_metrics_that_do_not_settle_are_read_in_the_end(workers: Workers) -> None:
    workers.write("one", v1=10, v2=10)
    window = workers.window()

    def beat(number: int) -> None:
        workers.pass_time(3)
        workers.write("one", v1=10, v2=10, busy_with="v2", busy_since=1.0)  # its last batch does not end
        workers.date("one", time.time() + 3 * number)

    ticks = Ticks(beat)
    assert window.read_when_settled(30, ticks).served.inputs == 0
    assert ticks.number == 10
