from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bunriwiki.model_store.heartbeats import ALIVE, FORGOTTEN, HOST, Heartbeat, Heartbeats, worker_name


@pytest.fixture
def heartbeats(tmp_path: Path) -> Heartbeats:
    return Heartbeats(tmp_path / "run")


def heartbeat(worker: str, pid: int = 1, host: str = HOST) -> Heartbeat:
    return Heartbeat(worker=worker, host=host, pid=pid, parent=1, role="yolo", state="ready")


def test_what_lives_is_heard(heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    assert heartbeats.alive() == []
    heartbeats.write(heartbeat("one"))
    heartbeats.write(heartbeat("two"))
    assert [one.worker for one in heartbeats.alive()] == ["one", "two"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ALIVE + 1)
    assert heartbeats.alive() == []


def test_the_dead_are_forgotten(heartbeats: Heartbeats, tmp_path: Path) -> None:
    for one in (heartbeat("one", 1), heartbeat("two", 2), heartbeat("elsewhere", 2, "another-host"), heartbeat("four", 4)):
        heartbeats.write(one)
    heartbeats.forget("one")
    heartbeats.forget_process(2)
    assert [one.worker for one in heartbeats.alive()] == ["elsewhere", "four"]
    os.utime(tmp_path / "run" / "four.json", (0, time.time() - FORGOTTEN - 1))
    heartbeats.tidy()
    assert [one.worker for one in heartbeats.alive()] == ["elsewhere"]


def test_what_cannot_be_read_is_passed_over(heartbeats: Heartbeats, tmp_path: Path) -> None:
    heartbeats.write(heartbeat("one"))
    (tmp_path / "run" / "two.json").write_text('{"worker": 2')
    (tmp_path / "run" / "yolo.turn").write_text("")
    assert [one.worker for one in heartbeats.alive()] == ["one"]


def test_prepared_and_failed() -> None:
    one = heartbeat("one").model_copy(
        update={"loaded": {"v1": "available", "v2": "loading", "v3": "loading"}, "errors": {"v3": "disk", "v4": "disk"}}
    )
    assert [one.prepared(version) for version in ("v1", "v2", "v4", "v5")] == [True, False, False, False]
    # A try that failed is not the last one as long as the version is being loaded.
    assert [one.failed(version) for version in ("v1", "v3", "v4", "v5")] == [None, None, "disk", None]


def test_names_are_of_one_worker() -> None:
    assert worker_name("yolo") != worker_name("yolo")
