from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats, Served
from bunriwiki.settings import VitalLimits
from bunriwiki.telemetry import vitals
from bunriwiki.telemetry.process_memory import resident_memory
from bunriwiki.telemetry.vitals import Vitals

MB = 2**20
LIMITS = VitalLimits(max_rss_bytes=0, workers=1, shutdown_seconds=60)


@pytest.fixture
def heartbeats(tmp_path: Path) -> Heartbeats:
    return Heartbeats(tmp_path / "run")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The resident memory of this worker in bytes."""
    resident = [100 * MB]
    monkeypatch.setattr(vitals, "resident_memory", lambda: resident[0])
    return resident


def make_worker(heartbeats: Heartbeats, ends: list[str], *, limit: int = 200, workers: int = 2) -> Vitals:
    worker = Vitals("yolo", heartbeats, VitalLimits(limit * MB, workers, 60))
    worker.end = ends.append  # type: ignore[assignment]
    worker.ready()
    return worker


def write_other(
    heartbeats: Heartbeats,
    name: str,
    *,
    rss: int = 100,
    over: bool = False,
    state: Any = "ready",
    parent: int | None = None,
) -> None:
    parent = parent or os.getppid()
    heartbeats.write(
        Heartbeat(worker=name, pid=1, parent=parent, role="kcbert", state=state, rss_bytes=rss * MB, over_limit=over)
    )


def test_the_heartbeat_of_a_worker(heartbeats: Heartbeats) -> None:
    worker = Vitals("yolo", heartbeats, LIMITS)
    worker.beat(serving="v1")
    [heartbeat] = heartbeats.alive()
    assert (heartbeat.role, heartbeat.state, heartbeat.serving, heartbeat.pid) == ("yolo", "starting", "v1", os.getpid())
    assert heartbeat.rss_bytes == pytest.approx(resident_memory(), rel=0.2)
    worker.ready()
    worker.leave()
    worker.beat()
    assert heartbeats.alive() == []


def test_figures_are_read_for_each_heartbeat(heartbeats: Heartbeats) -> None:
    counted = [1, 2]
    worker = Vitals("yolo", heartbeats, LIMITS, lambda: {"served": {"v1": Served(inputs=counted.pop(0))}})
    for inputs in (1, 2):
        worker.beat()
        assert [heartbeat.served["v1"].inputs for heartbeat in heartbeats.alive()] == [inputs]


def test_a_worker_over_the_limit_is_replaced(heartbeats: Heartbeats, memory: list[int]) -> None:
    ends: list[str] = []
    worker = make_worker(heartbeats, ends)
    write_other(heartbeats, "another")
    worker.check_memory()
    assert not ends
    memory[0] = 201 * MB
    worker.beat()
    worker.check_memory()
    assert ends == ["it has 201 MB, BUNRIWIKI_MAX_RSS_MB allows 200"]


@pytest.mark.parametrize("fields", [{"state": "starting"}, {"state": "ending"}, {"parent": 1}, {"over": True, "name": "a"}])
def test_only_one_worker_at_a_time_is_replaced(heartbeats: Heartbeats, memory: list[int], fields: dict[str, object]) -> None:
    ends: list[str] = []
    worker = make_worker(heartbeats, ends)
    memory[0] = 201 * MB
    worker.beat()
    write_other(heartbeats, **{"name": "z", **fields})  # type: ignore[arg-type]
    worker.check_memory()
    assert not ends


def test_a_worker_to_which_the_limit_is_not_applied_does_not_keep_others_from_being_replaced(
    heartbeats: Heartbeats, memory: list[int]
) -> None:
    ends: list[str] = []
    worker = make_worker(heartbeats, ends)
    memory[0] = 201 * MB
    worker.beat()
    write_other(heartbeats, "a", rss=300)
    worker.check_memory()
    assert ends == ["it has 201 MB, BUNRIWIKI_MAX_RSS_MB allows 200"]


@pytest.mark.parametrize("limit", [0, 50])
def test_no_limit_and_a_limit_that_is_too_low(heartbeats: Heartbeats, memory: list[int], limit: int) -> None:
    ends: list[str] = []
    worker = make_worker(heartbeats, ends, limit=limit, workers=1)
    memory[0] = 10_000 * MB
    worker.beat()
    worker.check_memory()
    assert not ends


def test_a_store_without_write_access_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    worker = Vitals("yolo", Heartbeats(tmp_path / "run"), LIMITS)
    worker.beat()
    worker.ready()
    assert worker.latest.state == "ready"


def test_a_worker_ends_itself_with_sigterm(heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *given: signals.append(given))
    monkeypatch.setattr(os, "_exit", lambda _: None)  # the timer would call it long after this test
    worker = Vitals("yolo", heartbeats, LIMITS)
    worker.end("a reason")
    assert signals == [(os.getpid(), 15)]
    assert worker.latest.state == "ending"
