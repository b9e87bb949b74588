from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.sync_state import ModelSync, SyncState
from bunriwiki.protocols.handlers.startup import FirstSync

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def say(path: Path, *, looked: bool) -> None:
    SyncState(since=NOW, models={"yolo": ModelSync(source="s3://bucket", looked=NOW if looked else None)}).write(path)


def test_with_no_sidecar_expected_the_start_waits_for_nothing(tmp_path: Path) -> None:
    assert FirstSync(tmp_path / "sync.json", 60, expected=False, started=time.time()).pending() is None


def test_the_start_waits_for_a_sidecar_that_is_expected(tmp_path: Path) -> None:
    first = FirstSync(tmp_path / "sync.json", 60, expected=True, started=time.time())
    assert first.pending() == "the sidecar has not looked at every registry yet"
    say(tmp_path / "sync.json", looked=False)
    assert first.pending()
    say(tmp_path / "sync.json", looked=True)
    assert first.pending() is None


def test_the_start_waits_for_a_sidecar_that_nobody_announced_but_that_is_there(tmp_path: Path) -> None:
    say(tmp_path / "sync.json", looked=False)
    assert FirstSync(tmp_path / "sync.json", 60, expected=False, started=time.time()).pending()


def test_the_start_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    assert FirstSync(tmp_path / "sync.json", 60, expected=True, started=time.time() - 61).pending() is None


def test_a_service_that_was_ready_does_not_wait_for_a_new_sidecar(tmp_path: Path) -> None:
    first = FirstSync(tmp_path / "sync.json", 60, expected=True, started=time.time())
    say(tmp_path / "sync.json", looked=True)
    assert first.pending() is None
    say(tmp_path / "sync.json", looked=False)
    assert first.pending() is None


def test_a_dead_sidecar_is_not_waited_for_where_none_is_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(tmp_path / "sync.json", looked=False)
    monkeypatch.setattr("bunriwiki.model_store.sync_state.ALIVE", -1.0)
    assert FirstSync(tmp_path / "sync.json", 60, expected=False, started=time.time()).pending() is None
