from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from model_sync.sandbox.run import MB
from model_sync.sandbox.usage import (
    DiskFullError,
    LimitExceededError,
    UsageLimits,
    UsageMeter,
    files_below,
    removed_open_files,
    usage_of,
)

HIGH = UsageLimits(memory=2**40, tasks=10_000, disk=2**40, files=10_000, reserve=0)


def test_shared_memory_is_counted() -> None:
    before, _ = usage_of(os.getpid())
    with mmap.mmap(-1, 32 * MB) as shared:
        shared.write(bytes(32 * MB))
        assert usage_of(os.getpid())[0] - before > 30 * MB


def test_threads_and_children_are_counted() -> None:
    before = usage_of(os.getpid())[1]
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert usage_of(os.getpid())[1] == before + 2
    stop.set()
    thread.join()
    child.communicate(b"\n")


def test_an_ended_process_uses_nothing() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    assert usage_of(process.pid) == (0, 0)


def test_a_file_is_counted_once_by_its_blocks(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(bytes(MB))
    (tmp_path / "again").hardlink_to(tmp_path / "d" / "file")
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(2**40)
    found = list(files_below(tmp_path))
    assert len(found) == 3
    assert MB <= sum(512 * status.st_blocks for status in found) < 2 * MB


def test_a_removed_open_file_is_counted(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as opened:
        opened.write(bytes(MB))
        opened.flush()
        (tmp_path / "file").unlink()
        assert any(status.st_size == MB for status in removed_open_files(os.getpid()))


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ({"memory": MB}, "more than 1 MB of memory"),
        ({"tasks": 0}, "more than 0 threads and processes"),
        ({"disk": MB}, "wrote more than 1 MB"),
        ({"files": 2}, "wrote more than 2 files"),
    ],
)
def test_exceeding_a_limit_raises(tmp_path: Path, limit: dict[str, int], error: str) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(MB))
    UsageMeter(os.getpid(), tmp_path, HIGH).check()
    with pytest.raises(LimitExceededError, match=error):
        UsageMeter(os.getpid(), tmp_path, replace(HIGH, **limit)).check()


def test_an_almost_full_disk_raises(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="MB are free on the disk"):
        UsageMeter(os.getpid(), tmp_path, replace(HIGH, reserve=2**60)).check()


def test_the_folder_is_not_walked_at_every_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = UsageMeter(os.getpid(), tmp_path, HIGH)
    walks: list[int] = []
    monkeypatch.setattr(meter, "check_disk", lambda: walks.append(1))
    for _ in range(100):
        meter.check()
    assert 1 <= len(walks) < 20
