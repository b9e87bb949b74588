from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from bunriwiki.model_store.quarantine import Quarantine, Quarantined


def rejected(version: str, reason: str = "too slow") -> Quarantined:
    return Quarantined(model="yolo", version=version, digest="abc", reason=reason, at=datetime(2026, 11, 22, tzinfo=UTC))


def test_entries_are_added_and_replaced(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine")
    assert quarantine.all() == []
    for entry in (rejected("v2"), rejected("v1"), rejected("v2", "wrong")):
        quarantine.add(entry)
    assert quarantine.all() == [rejected("v1"), rejected("v2", "wrong")]


def test_the_file_of_an_entry_is_readable(tmp_path: Path) -> None:
    Quarantine(tmp_path / "quarantine").add(rejected("v1", "너무 느려요"))
    text = (tmp_path / "quarantine" / "yolo" / "v1.yaml").read_text(encoding="utf-8")
    assert text.startswith("model: yolo\nversion: v1\n")
    assert "reason: 너무 느려요\n" in text
