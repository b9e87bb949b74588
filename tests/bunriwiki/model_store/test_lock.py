from __future__ import annotations

import os
from pathlib import Path

import pytest

from bunriwiki.model_store.lock import StoreLockedError, holder, writer_lock


def test_a_second_writer_is_rejected_with_the_name_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    with writer_lock(path, "the sidecar"):
        message = rf"by the sidecar \(process {os.getpid()} on .+, since 20"
        with pytest.raises(StoreLockedError, match=message), writer_lock(path, "somebody else"):
            pass
    with writer_lock(path, "somebody else"):
        pass


def test_an_unreadable_lock_file_is_held_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    with writer_lock(path, "the sidecar"):
        path.write_text("{")
        with pytest.raises(StoreLockedError, match="by another process"), writer_lock(path, "somebody else"):
            pass


def test_a_dead_process_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    child = os.fork()
    if not child:
        with writer_lock(path, "about to die"):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with writer_lock(path, "the next"):
        assert "the next" in path.read_text()


def test_the_holder_is_described(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    assert holder(path) is None
    assert not path.exists()
    with writer_lock(path, "the sidecar"):
        assert (holder(path) or "").startswith(f"the sidecar (process {os.getpid()} on ")
    assert holder(path) is None
