from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bunriwiki.sandbox.user import can_change
from model_sync.sandbox.handover import MAX_DEPTH, hand_over, take_back

with_users = pytest.mark.skipif(not can_change(), reason="the tests may not change owners")


@with_users
def test_the_owner_changes_and_is_restored(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_text("x")
    everything = [tmp_path, *tmp_path.rglob("*")]
    hand_over(tmp_path, 61184)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in everything} == {(61184, 61184)}
    take_back(tmp_path)
    assert {path.stat().st_uid for path in everything} == {os.geteuid()}


@with_users
def test_no_link_is_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    hand_over(folder, 61184)
    assert (outside.stat().st_uid, (folder / "link").lstat().st_uid) == (os.geteuid(), 61184)
    take_back(folder)
    assert (folder / "link").lstat().st_uid == os.geteuid()


def test_an_unreadable_folder_becomes_accessible(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "closed").mkdir(parents=True)
    (folder / "closed" / "file").write_text("x")
    (folder / "closed").chmod(0)
    take_back(folder)
    assert (folder / "closed").stat().st_mode & 0o700 == 0o700


def test_deeply_nested_folders_are_flattened(tmp_path: Path) -> None:
    here, folder = Path.cwd(), tmp_path / "folder"
    folder.mkdir()
    try:
        os.chdir(folder)
        for _ in range(2100):
            Path("d").mkdir()
            os.chdir("d")
        Path("file").write_text("x")
    finally:
        os.chdir(here)
    take_back(folder)
    assert max(len(path.relative_to(folder).parts) for path in folder.rglob("*")) <= MAX_DEPTH + 1
    assert [path.name for path in folder.rglob("file")] == ["file"]
    shutil.rmtree(folder)
