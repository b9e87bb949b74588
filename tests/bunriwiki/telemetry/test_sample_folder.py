from __future__ import annotations

import json
from pathlib import Path

import pytest

from bunriwiki.telemetry.sample_folder import DAY, SampleFolder


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


def cut_short(folder: Path, sample_folder: SampleFolder, request_id: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write a sample in a process that dies before it renames the file; what a reader sees, and what is left aside."""

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            sample_folder.write("yolo", request_id, {"labels": []})
    assert list(folder.glob("*/*.json")) == list(folder.glob("*/*.photo")) == []
    return [path.suffix for path in folder.glob("*/.*")]


def names(folder: Path) -> list[str]:
    return sorted(path.name.split("~")[1] for path in folder.glob("*/*"))


def test_a_sample_is_a_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    SampleFolder(tmp_path, 1, 1000, Clock()).write("kcbert", "a-request", {"labels": ["없음"]})
    [path] = tmp_path.glob("kcbert/*")
    assert path.name.startswith("1000000000000000000~a-request~")
    assert json.loads(path.read_text()) == {"labels": ["없음"]}
    assert path.stat().st_mode & 0o777 == 0o600


def test_samples_of_a_request_are_deleted_with_their_photos(tmp_path: Path) -> None:
    folder = SampleFolder(tmp_path, 1, 1000)
    folder.write("yolo", "one", {}, b"a photo")
    folder.write("kcbert", "one", {})
    folder.write("kcbert", "one.more", {})
    assert folder.forget("one") == 2
    assert names(tmp_path) == ["one.more"]
    assert folder.forget("*") == 0


def test_old_samples_are_deleted(tmp_path: Path) -> None:
    clock = Clock()
    folder = SampleFolder(tmp_path, 2, 1000, clock)
    folder.write("kcbert", "old", {})
    clock.now += 2 * DAY + 1
    folder.write("kcbert", "new", {})
    (tmp_path / "kcbert" / "notes.txt").write_text("of somebody else")
    folder.prune()
    assert [path.name for path in tmp_path.glob("*/*") if "~" not in path.name] == ["notes.txt"]
    assert [path.name.split("~")[1] for path in tmp_path.glob("*/*~*")] == ["new"]


def test_the_oldest_are_deleted_where_there_are_too_many(tmp_path: Path) -> None:
    clock = Clock()
    folder = SampleFolder(tmp_path, 2, 250, clock)
    for number in range(5):
        clock.now += 1
        folder.write("yolo", f"{number}", {}, b"x" * 98)
    folder.prune()
    assert names(tmp_path) == ["3", "3", "4", "4"]


def test_what_a_killed_process_left_aside_is_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    folder = SampleFolder(tmp_path, 2, 1000, clock)
    assert cut_short(tmp_path, folder, "forgotten", monkeypatch) == [".part"]
    assert folder.forget("forgotten") == 0
    assert names(tmp_path) == []
    assert cut_short(tmp_path, folder, "old", monkeypatch) == [".part"]
    folder.prune()
    assert names(tmp_path) == ["old"]  # it may still be written
    clock.now += 2 * DAY + 1
    folder.prune()
    assert names(tmp_path) == []
