from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bunriwiki.model_store.heartbeats import ALIVE, FORGOTTEN, HOST, Heartbeat, Heartbeats, Served, worker_name
from bunriwiki.model_store.names import FALLBACK


@pytest.fixture
def heartbeats(tmp_path: Path) -> Heartbeats:
    return Heartbeats(tmp_path / "run")


def heartbeat(worker: str, pid: int = 1, host: str = HOST) -> Heartbeat:
    return Heartbeat(worker=worker, host=host, pid=pid, parent=1, role="yolo", state="ready")


def test_heartbeats_count_until_they_are_too_old(heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    assert heartbeats.alive() == []
    heartbeats.write(heartbeat("one"))
    heartbeats.write(heartbeat("two"))
    assert [beat.worker for beat in heartbeats.alive()] == ["one", "two"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ALIVE + 1)
    assert heartbeats.alive() == []


def test_heartbeats_of_dead_workers_are_deleted(heartbeats: Heartbeats, tmp_path: Path) -> None:
    for beat in (heartbeat("one", 1), heartbeat("two", 2), heartbeat("elsewhere", 2, "another-host"), heartbeat("four", 4)):
        heartbeats.write(beat)
    heartbeats.forget("one")
    heartbeats.forget_process(2)
    assert [beat.worker for beat in heartbeats.alive()] == ["elsewhere", "four"]
    os.utime(tmp_path / "run" / "four.json", (0, time.time() - FORGOTTEN - 1))
    heartbeats.tidy()
    assert [beat.worker for beat in heartbeats.alive()] == ["elsewhere"]


def test_files_that_are_no_heartbeats_are_skipped(heartbeats: Heartbeats, tmp_path: Path) -> None:
    heartbeats.write(heartbeat("one"))
    (tmp_path / "run" / "two.json").write_text('{"worker": 2')
    (tmp_path / "run" / "yolo.turn").write_text("")
    assert [beat.worker for beat in heartbeats.alive()] == ["one"]


def test_prepared_and_failed() -> None:
    beat = heartbeat("one").model_copy(
        update={"loaded": {"v1": "available", "v2": "loading", "v3": "loading"}, "errors": {"v3": "disk", "v4": "disk"}}
    )
    assert [beat.prepared(version) for version in ("v1", "v2", "v4", "v5")] == [True, False, False, False]
    # As long as the version is being loaded, a failed try is not the last.
    assert [beat.failed(version) for version in ("v1", "v3", "v4", "v5")] == [None, None, "disk", None]


def test_names_are_unique() -> None:
    assert worker_name("yolo") != worker_name("yolo")


def test_a_heartbeat_is_not_flushed_to_the_disk(heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    def flushed(_: int) -> None:
        pytest.fail("it is written every second, and waits for the disk")

    monkeypatch.setattr(os, "fsync", flushed)
    heartbeats.write(heartbeat("one"))
    assert [beat.worker for beat in heartbeats.alive()] == ["one"]


def test_a_worker_may_start_before_the_store_exists_and_end_without_a_heartbeat(tmp_path: Path) -> None:
    heartbeats = Heartbeats(tmp_path / "store" / "run")
    heartbeats.forget("one")
    heartbeats.write(heartbeat("two"))
    assert [beat.worker for beat in heartbeats.alive()] == ["two"]


def test_each_worker_knows_the_fallback_version_by_a_name_of_its_own() -> None:
    served = Served(inputs=5)
    beat = heartbeat("one").model_copy(
        update={"fallback": "fallback-3", "loaded": {"fallback-3": "available"}, "served": {"fallback-3": served}}
    )
    assert beat.prepared(FALLBACK)
    assert beat.served_by(FALLBACK) == beat.served_by("fallback-3") == served
    assert not beat.prepared("fallback-2")
    broken = beat.model_copy(update={"loaded": {}, "errors": {"fallback-3": "damaged"}})
    assert (broken.prepared(FALLBACK), broken.failed(FALLBACK)) == (False, "damaged")


def test_a_worker_that_names_no_fallback_version_has_not_prepared_it() -> None:
    assert not heartbeat("one").model_copy(update={"loaded": {"v1": "available"}}).prepared(FALLBACK)
