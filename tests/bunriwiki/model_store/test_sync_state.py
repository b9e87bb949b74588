from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from bunriwiki.model_store.sync_state import ModelSync, SyncState

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sync.json"
    SyncState(since=NOW, models={"yolo": ModelSync(source="here", looked=NOW), "kcbert": ModelSync(source="here")}).write(path)
    state = SyncState.read(path)
    assert state is not None
    assert state.is_alive
    assert not state.has_synced
    assert state.models["yolo"] == ModelSync(source="here", looked=NOW)


def test_nothing_and_nonsense_are_no_state(tmp_path: Path) -> None:
    assert SyncState.read(tmp_path / "sync.json") is None
    (tmp_path / "sync.json").write_text("{")
    assert SyncState.read(tmp_path / "sync.json") is None


def test_only_what_may_be_mended_is_trouble() -> None:
    assert ModelSync(source="S3", status="unreachable", reason="no route").trouble == "S3: no route"
    assert ModelSync(source="S3", status="failed", reason="the disk is full").trouble == "S3: the disk is full"
    assert ModelSync(source="S3", status="rejected", reason="it is slow").trouble is None
