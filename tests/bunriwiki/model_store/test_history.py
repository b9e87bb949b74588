from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from bunriwiki.model_store.history import Event, History

AT = datetime(2026, 11, 22, tzinfo=UTC)


def test_events_are_read_in_order(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    assert list(history.read()) == []
    events = [Event(at=AT, kind="published", model=model, version="v1") for model in ("yolo", "kcbert", "yolo")]
    for event in events:
        history.append(event)
    assert list(history.read()) == events
    assert list(history.read("yolo")) == [events[0], events[2]]


def test_an_unfinished_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    event = Event(at=AT, kind="published", model="yolo", version="v1")
    history.append(event)
    path.write_bytes(path.read_bytes() + '{"at": "2026-11-22T00:00:00Z", "kind": "activ가'.encode()[:-1])
    history.append(event)
    assert list(history.read()) == [event, event]
