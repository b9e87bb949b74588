from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bunriwiki.model_store.quarantine import UNREADABLE, Quarantine, Quarantined


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


@pytest.mark.parametrize("text", [b"", b"- 1", b"{", b"a: \xff", b"model: yolo", b"[" * 500, b"at: 2026-13-45"])
def test_a_damaged_entry_keeps_its_version_in_quarantine(tmp_path: Path, text: bytes) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.add(rejected("v1"))
    (tmp_path / "yolo" / "v1.yaml").write_bytes(text)
    found = quarantine.find("yolo", "v1")
    assert found
    assert (found.version, found.digest) == ("v1", UNREADABLE)
    assert "quarantine release" in found.reason
    assert found.applies_to("any digest", "any signature")
    assert quarantine.all() == [found]
    assert quarantine.release("yolo", "v1")
    assert quarantine.find("yolo", "v1") is None


def test_a_folder_or_another_name_in_place_of_an_entry_does_no_harm(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.add(rejected("v1"))
    (tmp_path / "yolo" / "v2.yaml").mkdir()
    (tmp_path / "yolo" / "NOT A VERSION.yaml").touch()
    assert [entry.version for entry in quarantine.all()] == ["v1", "v2"]


def test_other_files_or_another_signature_void_the_reason() -> None:
    assert rejected("v1").applies_to("abc", "s1")
    assert not rejected("v1").applies_to("def", "s1")
    signed = rejected("v1").model_copy(update={"signature": "s1"})
    assert signed.applies_to("abc", "s1")
    assert not signed.applies_to("abc", "s2")
