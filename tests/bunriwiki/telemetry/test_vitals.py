from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats, Served
from bunriwiki.settings import VitalLimits
from bunriwiki.telemetry import vitals
from bunriwiki.telemetry.vitals import Vitals, resident_memory

MB = 2**20
LIMITS = VitalLimits(memory=0, workers=1, last_word=60)


@pytest.fixture
def heartbeats(tmp_path: Path) -> Heartbeats:
    return Heartbeats(tmp_path / "run")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What this worker takes, in bytes."""
    taken = [100 * MB]
    monkeypatch.setattr(vitals, "resident_memory", lambda: taken[0])
    return taken


def worker(heartbeats: Heartbeats, ends: list[str], *, limit: int = 200, workers: int = 2) -> Vitals:
    one = Vitals("yolo", heartbeats, VitalLimits(limit * MB, workers, 60))
    one.end = ends.append  # type: ignore[assignment]
    one.ready()
    return one


def other(heartbeats: Heartbeats, name: str, *, rss: int = 100, state: Any = "ready", parent: int | None = None) -> None:
    heartbeats.write(Heartbeat(worker=name, pid=1, parent=parent or os.getppid(), role="kcbert", state=state, rss=rss * MB))


def test_what_a_worker_says(heartbeats: Heartbeats) -> None:
    one = Vitals("yolo", heartbeats, LIMITS)
    one.beat(serving="v1")
    [said] = heartbeats.alive()
    assert (said.role, said.state, said.serving, said.pid) == ("yolo", "starting", "v1", os.getpid())
    assert said.rss == pytest.approx(resident_memory(), rel=0.2)
    one.ready()
    one.leave()
    one.beat()
    assert heartbeats.alive() == []


def test_it_says_the_figures_as_they_are_at_each_time(heartbeats: Heartbeats) -> None:
    counted = [1, 2]
    one = Vitals("yolo", heartbeats, LIMITS, lambda: {"served": {"v1": Served(inputs=counted.pop(0))}})
    for inputs in (1, 2):
        one.beat()
        assert [said.served["v1"].inputs for said in heartbeats.alive()] == [inputs]


def test_a_worker_over_the_limit_is_replaced(heartbeats: Heartbeats, memory: list[int]) -> None:
    ends: list[str] = []
    one = worker(heartbeats, ends)
    other(heartbeats, "another")
    one.check_memory()
    assert not ends
    memory[0] = 201 * MB
    one.beat()
    one.check_memory()
    assert ends == ["it has 201 MB, BUNRIWIKI_MAX_RSS_MB allows 200"]


@pytest.mark.parametrize("fields", [{"state": "starting"}, {"state": "ending"}, {"parent": 1}, {"rss": 300, "name": "a"}])
def test_one_at_a_time(heartbeats: Heartbeats, memory: list[int], fields: dict[str, object]) -> None:
    ends: list[str] = []
    one = worker(heartbeats, ends)
    memory[0] = 201 * MB
    one.beat()
    other(heartbeats, **{"name": "z", **fields})  # type: ignore[arg-type]
    one.check_memory()
    assert not ends


@pytest.mark.parametrize("limit", [0, 50])
def test_no_limit_and_one_that_is_too_low(heartbeats: Heartbeats, memory: list[int], limit: int) -> None:
    ends: list[str] = []
    one = worker(heartbeats, ends, limit=limit, workers=1)
    memory[0] = 10_000 * MB
    one.beat()
    one.check_memory()
    assert not ends


def test_a_store_that_cannot_be_written_to_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    one = Vitals("yolo", Heartbeats(tmp_path / "run"), LIMITS)
    one.beat()
    one.ready()
    assert one.latest.state == "ready"


def test_it_ends_as_sigterm_does(heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *given: signals.append(given))
    monkeypatch.setattr(os, "_exit", lambda _: None)  # the last word comes long after this test
    one = Vitals("yolo", heartbeats, LIMITS)
    one.end("a reason")
    assert signals == [(os.getpid(), 15)]
    assert one.latest.state == "ending"
