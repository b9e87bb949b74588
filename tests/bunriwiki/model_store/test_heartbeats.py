from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bunriwiki.model_store.heartbeats import ALIVE, FORGOTTEN, HOST, Heartbeat, Heartbeats, Served, worker_name
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.testing.versions import BUNDLED_VERSION


class Clock:
    """A monotonic clock in seconds, that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeats(tmp_path: Path, clock: Clock) -> Heartbeats:
    return Heartbeats(tmp_path / "run", monotonic=clock)


def heartbeat(worker: str, pid: int = 1, host: str = HOST) -> Heartbeat:
    return Heartbeat(worker=worker, host=host, pid=pid, parent=1, role="yolo", state="ready")


def names(heartbeats: Heartbeats) -> list[str]:
    return [beat.worker for beat in heartbeats.alive()]


def watch(heartbeats: Heartbeats, clock: Clock, seconds: float) -> list[str]:
    """Read every half a second for so long; the workers that are alive then."""
    for _ in range(round(seconds / 0.5)):
        clock.seconds += 0.5
        heartbeats.alive()
    return names(heartbeats)


def jump(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)


def test_a_worker_is_dead_when_its_heartbeat_has_not_changed_for_long(heartbeats: Heartbeats, clock: Clock) -> None:
    assert heartbeats.alive() == []
    heartbeats.write(heartbeat("one"))
    heartbeats.write(heartbeat("two"))
    assert names(heartbeats) == ["one", "two"]
    assert watch(heartbeats, clock, ALIVE - 1) == ["one", "two"]
    heartbeats.write(heartbeat("two"))
    assert watch(heartbeats, clock, 1) == ["two"]
    assert watch(heartbeats, clock, ALIVE) == []


@pytest.mark.parametrize("seconds", [6.0, 86_400.0, -6.0, -86_400.0])
def test_a_clock_that_jumps_kills_nobody(
    heartbeats: Heartbeats, clock: Clock, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    for name in ("one", "two"):
        heartbeats.write(heartbeat(name))
    assert names(heartbeats) == ["one", "two"]
    jump(monkeypatch, seconds)
    assert names(heartbeats) == ["one", "two"]
    heartbeats.write(heartbeat("one"))  # two has not written since the jump
    assert watch(heartbeats, clock, 1) == ["one", "two"]
    assert watch(heartbeats, clock, ALIVE) == []  # silent for long, whatever the clock says


def test_if_all_are_silent_a_new_reader_does_not_know_and_waits(
    heartbeats: Heartbeats, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        heartbeats.write(heartbeat(name))
    jump(monkeypatch, 6)
    reader = Heartbeats(tmp_path / "run", monotonic=clock)
    assert names(reader) == ["one", "two"]
    assert watch(reader, clock, ALIVE) == []


def test_a_new_reader_believes_the_time_of_a_heartbeat_while_the_clocks_agree(
    heartbeats: Heartbeats, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeats.write(heartbeat("dead"))
    jump(monkeypatch, ALIVE + 1)
    heartbeats.write(heartbeat("live"))
    assert names(Heartbeats(tmp_path / "run", monotonic=clock)) == ["live"]


def test_a_reader_that_was_stopped_itself_does_not_conclude_from_that(heartbeats: Heartbeats, clock: Clock) -> None:
    heartbeats.write(heartbeat("one"))
    assert names(heartbeats) == ["one"]
    clock.seconds += 3600
    assert names(heartbeats) == ["one"]
    assert watch(heartbeats, clock, ALIVE) == []


def test_heartbeats_of_dead_workers_are_deleted(heartbeats: Heartbeats, tmp_path: Path) -> None:
    for beat in (heartbeat("one", 1), heartbeat("two", 2), heartbeat("elsewhere", 2, "another-host"), heartbeat("four", 4)):
        heartbeats.write(beat)
    heartbeats.forget("one")
    heartbeats.forget_process(2)
    assert [beat.worker for beat in heartbeats.alive()] == ["elsewhere", "four"]


def test_what_has_not_changed_for_long_is_deleted(heartbeats: Heartbeats, clock: Clock, tmp_path: Path) -> None:
    half_written = tmp_path / "run" / ".dead.json.123"
    for name in ("dead", "live"):
        heartbeats.write(heartbeat(name))
    half_written.write_text("{")
    for _ in range(2):
        heartbeats.tidy()
        heartbeats.write(heartbeat("live"))
        clock.seconds += FORGOTTEN + 1
    assert not half_written.exists()
    assert [beat.worker for beat in Heartbeats(tmp_path / "run").alive()] == ["live"]


def test_a_clock_that_jumps_deletes_no_heartbeat(heartbeats: Heartbeats, clock: Clock, tmp_path: Path) -> None:
    heartbeats.write(heartbeat("one"))
    heartbeats.tidy()
    past = time.time() - 10 * FORGOTTEN
    os.utime(tmp_path / "run" / "one.json", (past, past))  # as if the clock had been set forward since
    clock.seconds += 5
    heartbeats.tidy()
    Heartbeats(tmp_path / "run", monotonic=clock).tidy()  # nor does a reader that has just started
    assert (tmp_path / "run" / "one.json").exists()


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
        update={"fallback": BUNDLED_VERSION, "loaded": {BUNDLED_VERSION: "available"}, "served": {BUNDLED_VERSION: served}}
    )
    assert beat.prepared(FALLBACK)
    assert beat.served_by(FALLBACK) == beat.served_by(BUNDLED_VERSION) == served
    assert not beat.prepared("fallback-2")
    broken = beat.model_copy(update={"loaded": {}, "errors": {BUNDLED_VERSION: "damaged"}})
    assert (broken.prepared(FALLBACK), broken.failed(FALLBACK)) == (False, "damaged")


def test_a_worker_that_names_no_fallback_version_has_not_prepared_it() -> None:
    assert not heartbeat("one").model_copy(update={"loaded": {"v1": "available"}}).prepared(FALLBACK)
