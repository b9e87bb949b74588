from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store import heartbeats
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats, Served, Shadowed
from model_sync.live import metrics_window
from model_sync.live.analysis import LiveMetrics
from model_sync.live.metrics_window import MetricsWindow


class Crowd:
    """Workers that say what they are told to."""

    def __init__(self, folder: Path) -> None:
        self.heartbeats = Heartbeats(folder)

    def says(self, worker: str, *, role: str = "kcbert", parent: int = 1, **fields: Any) -> None:
        """`v1` and `v2`: how many inputs it has answered with them."""
        counted = {version: served(fields.pop(version)) for version in ("v1", "v2") if version in fields}
        told = {"state": "ready", "loaded": {"v1": "available", "v2": "available"}, "served": counted, **fields}
        self.heartbeats.write(Heartbeat(worker=worker, pid=1, parent=parent, role=role, **told))

    def dies(self, worker: str) -> None:
        self.heartbeats.forget(worker)

    def observe(self, stuck: float = 30) -> MetricsWindow:
        return MetricsWindow(self.heartbeats, "kcbert", "v2", "v1", stuck)


def served(inputs: int) -> Served:
    return Served(inputs=inputs, failures=inputs // 10, batches=inputs // 2, seconds=inputs / 64)


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    return Crowd(tmp_path)


def test_only_what_comes_after_its_beginning_counts(crowd: Crowd) -> None:
    crowd.says("one", v1=1000, v2=100)
    crowd.says("two", v1=500)
    seen = crowd.observe()
    assert seen.until_it_began().inputs == 1500
    assert seen.read().served == Served()
    crowd.says("one", v1=1020, v2=140)
    crowd.says("two", v1=500, v2=60)
    found = seen.read()
    assert (found.served, found.served_before) == (served(100), served(20))
    assert seen.read(served(1500)).served_before == served(1500)


def test_a_worker_that_was_started_again_begins_at_zero(crowd: Crowd) -> None:
    crowd.says("one", v2=100)
    seen = crowd.observe()
    crowd.says("one", v2=120)
    seen.read()
    crowd.dies("one")
    crowd.says("one again", v2=30)
    assert seen.read().served.inputs == 50


def test_a_version_that_a_worker_had_forgotten_begins_at_zero(crowd: Crowd) -> None:
    crowd.says("one", v2=100)
    seen = crowd.observe()
    crowd.says("one", v2=40)
    assert seen.read().served.inputs == 40


def test_other_models_do_not_count(crowd: Crowd) -> None:
    seen = crowd.observe()
    crowd.says("other", role="yolo", v2=100, busy_with="v2", busy_since=1.0)
    assert seen.read() == LiveMetrics("v2", "v1", Served(), Served())


def test_comparisons_come_from_the_gateways(crowd: Crowd) -> None:
    crowd.says("gateway", role="gateway", shadowed={"kcbert:v2": Shadowed(inputs=10, differing=5)})
    seen = crowd.observe()
    both = {"kcbert:v2": Shadowed(inputs=30, differing=6), "yolo:v2": Shadowed(inputs=7, differing=7)}
    crowd.says("gateway", role="gateway", shadowed=both)
    crowd.says("another", role="gateway", shadowed={"kcbert:v2": Shadowed(inputs=3, differing=2)})
    assert seen.read().shadowed == Shadowed(inputs=23, differing=3)


@pytest.mark.parametrize(("version", "seconds", "stuck"), [("v2", 0.2, 1), ("v2", 0.0, 0), ("v1", 0.2, 0), (None, 0.2, 0)])
def test_a_worker_that_is_busy_for_too_long_is_stuck(crowd: Crowd, version: str | None, seconds: float, stuck: int) -> None:
    seen = crowd.observe(stuck=0.1)
    time.sleep(0.3)
    crowd.says("one", busy_with=version, busy_since=time.time() - seconds if version else None)
    assert seen.read().stuck == stuck


def test_a_worker_that_has_just_died_is_not_stuck(crowd: Crowd) -> None:
    seen = crowd.observe(stuck=0.1)
    crowd.says("one", busy_with="v2", busy_since=time.time())
    time.sleep(0.3)
    assert seen.read().stuck == 0


def test_a_worker_that_falls_silent_is_stuck(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that does not let go of the interpreter stops the heartbeat, too."""
    crowd.says("one")
    crowd.says("gateway", role="gateway")
    seen = crowd.observe(stuck=0.2)
    monkeypatch.setattr(heartbeats, "ALIVE", 0.1)
    monkeypatch.setattr(metrics_window, "SILENT", 0.1)
    time.sleep(0.3)
    crowd.says("gateway", role="gateway")
    assert (seen.read().stuck, seen.read().deaths) == (1, 0)


def test_workers_that_die_and_are_started_again_are_counted(crowd: Crowd) -> None:
    crowd.says("one")
    crowd.says("two")
    seen = crowd.observe()
    counted = []
    for old, new in (("one", "three"), ("three", "four"), ("two", "five")):
        crowd.dies(old)
        seen.read()
        crowd.says(new, state="starting", loaded={})
        counted.append(seen.read().deaths)
    assert counted == [1, 2, 3]


def test_a_service_that_is_stopped_loses_no_workers(crowd: Crowd) -> None:
    crowd.says("one")
    crowd.says("two")
    seen = crowd.observe(stuck=0)
    crowd.dies("one")
    seen.read()
    crowd.dies("two")
    assert (seen.read().deaths, seen.read().stuck) == (0, 0)


def test_a_service_that_replaces_another_one_is_no_restart(crowd: Crowd) -> None:
    for worker in ("one", "two", "three"):
        crowd.says(worker)
    seen = crowd.observe()
    for number, worker in enumerate(("one", "two", "three")):
        crowd.says(f"new {number}", parent=2)
        seen.read()
        crowd.dies(worker)
        seen.read()
    assert seen.read().deaths == 0


@pytest.mark.parametrize("fields", [{"state": "ending"}, {"loaded": {"v1": "available", "v2": "loading"}}])
def test_a_worker_that_ends_itself_or_was_left_behind_has_not_died(crowd: Crowd, fields: dict[str, Any]) -> None:
    crowd.says("one", **fields)
    crowd.says("two")
    seen = crowd.observe()
    seen.read()
    crowd.dies("one")
    crowd.says("three")
    assert (seen.read().deaths, seen.read().stuck) == (0, 0)
