from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.sync_state import ALIVE, ModelSync, SyncState, SyncWatch

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_the_state_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "sync.json"
    models = {"yolo": ModelSync(source="here", synced_at=NOW), "kcbert": ModelSync(source="here")}
    SyncState(since=NOW, models=models).write(path)
    state = SyncState.read(path)
    assert state is not None
    assert state.is_alive
    assert not state.has_synced  # kcbert was not synced yet
    assert state.models == models
    assert state.model_copy(update={"models": {"yolo": state.models["yolo"]}}).has_synced


def test_a_missing_or_invalid_file_is_no_state(tmp_path: Path) -> None:
    assert SyncState.read(tmp_path / "sync.json") is None
    (tmp_path / "sync.json").write_text("{")
    assert SyncState.read(tmp_path / "sync.json") is None


def test_a_rejected_version_is_no_trouble() -> None:
    assert ModelSync(source="S3", status="unreachable", reason="no route").trouble == "S3: no route"
    assert ModelSync(source="S3", status="failed", reason="the disk is full").trouble == "S3: the disk is full"
    assert ModelSync(source="S3", status="rejected", reason="it is slow").trouble is None


def test_the_state_is_not_flushed_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flushed(_: int) -> None:
        pytest.fail("it is written every two seconds, and waits for the disk")

    monkeypatch.setattr(os, "fsync", flushed)
    SyncState(since=NOW, models={}).write(tmp_path / "sync.json")
    assert SyncState.read(tmp_path / "sync.json")


@dataclass
class Clock:
    """A monotonic clock that the test moves."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


def write(path: Path, at: float, *, ended: bool = False) -> None:
    """The state of a sidecar whose clock shows `at`."""
    path.write_text(SyncState(since=NOW, models={}, at=at, ended=ended).model_dump_json())


def test_a_sidecar_that_is_silent_counts_as_dead(tmp_path: Path) -> None:
    path, clock = tmp_path / "sync.json", Clock()
    watch = SyncWatch(path, monotonic=clock)
    assert watch.read() == (None, False)
    write(path, time.time())
    assert watch.read()[1]
    clock.seconds += ALIVE - 1
    assert watch.read()[1]
    clock.seconds += 1
    assert not watch.read()[1]
    write(path, time.time() + 1)
    assert watch.read()[1]
    write(path, time.time() + 2, ended=True)
    assert not watch.read()[1]


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_jumps_neither_ends_nor_revives_a_sidecar(tmp_path: Path, jump: float) -> None:
    path, clock = tmp_path / "sync.json", Clock()
    watch = SyncWatch(path, monotonic=clock)
    write(path, time.time())
    assert watch.read()[1]
    clock.seconds += 2
    write(path, time.time() + jump)  # it runs, and its clock and this one's differ
    assert watch.read()[1]
    for _ in range(10):
        clock.seconds += 2
        silent = watch.read()[1]
    assert not silent  # it has died since


def test_a_reader_that_looks_rarely_goes_by_the_time_in_the_state(tmp_path: Path) -> None:
    path, clock = tmp_path / "sync.json", Clock()
    watch = SyncWatch(path, monotonic=clock)
    write(path, time.time() - 3600)
    assert not watch.read()[1]
    clock.seconds += 3600
    write(path, time.time() - 60)  # it lived on, and died a minute ago
    assert not watch.read()[1]
    write(path, time.time())
    assert watch.read()[1]
