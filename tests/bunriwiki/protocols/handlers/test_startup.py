from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.protocols.handlers.startup import FirstSync

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def write_state(path: Path, *, synced: bool) -> None:
    SyncState(since=NOW, models={"yolo": ModelSync(source="s3://bucket", synced_at=NOW if synced else None)}).write(path)


def test_without_a_sidecar_the_start_does_not_wait(tmp_path: Path) -> None:
    assert FirstSync(tmp_path / "sync.json", 60, expected=False, started=time.time()).pending() is None


def test_the_start_waits_for_the_expected_sidecar(tmp_path: Path) -> None:
    first = FirstSync(tmp_path / "sync.json", 60, expected=True, started=time.time())
    assert first.pending() == "the sidecar has not synced with every registry yet"
    write_state(tmp_path / "sync.json", synced=False)
    assert first.pending()
    write_state(tmp_path / "sync.json", synced=True)
    assert first.pending() is None


def test_the_start_waits_for_a_sidecar_that_runs_unexpectedly(tmp_path: Path) -> None:
    write_state(tmp_path / "sync.json", synced=False)
    assert FirstSync(tmp_path / "sync.json", 60, expected=False, started=time.time()).pending()


def test_the_start_waits_no_longer_than_the_limit(tmp_path: Path) -> None:
    assert FirstSync(tmp_path / "sync.json", 60, expected=True, started=time.time() - 61).pending() is None


def test_a_service_that_was_ready_does_not_wait_for_a_new_sidecar(tmp_path: Path) -> None:
    first = FirstSync(tmp_path / "sync.json", 60, expected=True, started=time.time())
    write_state(tmp_path / "sync.json", synced=True)
    assert first.pending() is None
    write_state(tmp_path / "sync.json", synced=False)
    assert first.pending() is None


def test_the_start_does_not_wait_for_a_dead_sidecar_that_is_not_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path / "sync.json", synced=False)
    monkeypatch.setattr("bunriwiki.model_store.sync_state.ALIVE", -1.0)
    assert FirstSync(tmp_path / "sync.json", 60, expected=False, started=time.time()).pending() is None
