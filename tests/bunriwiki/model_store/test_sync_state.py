from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.sync_state import ModelSync, SyncState

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
