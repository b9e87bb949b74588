from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from bunriwiki.telemetry.metrics import archive
from bunriwiki.telemetry.metrics.archive import ARCHIVE, MAX_RUNNER_FILES, merge_dead, read_all
from bunriwiki.telemetry.metrics.loads import runner_keys
from bunriwiki.telemetry.metrics.record_file import Field, RecordFile
from bunriwiki.telemetry.metrics.value_file import ValueFile, read_values
from bunriwiki.telemetry.metrics.values import LIVE_SUM, MAX, RECORDS_SUFFIX, SUFFIX, Key
from bunriwiki.telemetry.metrics.versions import KEEP_SECONDS
from tests.bunriwiki.telemetry.metrics.files import add, put

Start = Callable[..., ValueFile]

REQUESTS = Key("counter", "", "requests", "requests_total", (), "Help.").text()
RUNNING = Key("gauge", LIVE_SUM, "running", "running", (), "Help.").text()
LATEST = Key("gauge", MAX, "latest", "latest", (), "Help.").text()


def of_version(version: str) -> str:
    labels = (("model", "yolo"), ("version", version))
    return Key("counter", "", "bunriwiki_predictions", "bunriwiki_predictions_total", labels, "Help.").text()


def seen(version: str) -> str:
    name = "bunriwiki_version_seen_timestamp_seconds"
    return Key("gauge", MAX, name, name, (("model", "yolo"), ("version", version)), "Help.").text()


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob(f"*/*{SUFFIX}"))


def test_dead_workers_keep_their_counts_and_lose_their_gauges(root: Path, worker: Start) -> None:
    for pid, requests in ((1, 10), (2, 200)):
        file = worker(pid)
        add(file, REQUESTS, requests)
        add(file, RUNNING, pid)
        put(file, LATEST, 100 - pid)
    assert read_all(root) == {REQUESTS: 210, RUNNING: 3, LATEST: 99}
    merge_dead(root, 1)
    assert len(files(root)) == 1
    assert read_all(root) == {REQUESTS: 210, RUNNING: 2, LATEST: 99}
    merge_dead(root, 2)
    assert read_all(root) == {REQUESTS: 210, LATEST: 99}
    merge_dead(root, 3)  # it had no file
    assert read_all(root) == {REQUESTS: 210, LATEST: 99}


def test_records_of_dead_workers_are_kept(root: Path, worker: Start) -> None:
    add(worker(1), REQUESTS, 10)
    records = RecordFile(root / "gateway" / f"1-ff{RECORDS_SUFFIX}")
    for amounts, times in (((1, 1), 7), ((2, -1), 3)):
        record = records.define([[Field(REQUESTS)], [Field(RUNNING)]])
        for _ in range(times):
            record(*amounts)
    RecordFile(root / "yolo" / f"2-ff{RECORDS_SUFFIX}").define([[Field(REQUESTS)]])(1)  # a runner may have no such file
    assert read_all(root) == {REQUESTS: 23, RUNNING: 4}
    merge_dead(root, 1)
    assert not list(root.glob("gateway/*"))
    assert read_all(root) == {REQUESTS: 23}
    merge_dead(root, 2)
    assert read_all(root) == {REQUESTS: 23}


def test_a_process_whose_id_begins_with_that_of_a_dead_one_lives(root: Path, worker: Start) -> None:
    add(worker(1), REQUESTS, 1)
    alive = worker(12)
    add(alive, REQUESTS, 1)
    merge_dead(root, 1)
    add(alive, REQUESTS, 1)
    assert read_all(root) == {REQUESTS: 3}


@pytest.mark.parametrize("step", range(3))
def test_a_supervisor_that_dies_in_a_merge_loses_and_doubles_nothing(
    root: Path, worker: Start, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    for role in ("gateway", "supervisor"):
        add(worker(1, role), REQUESTS, 5)
    add(worker(2), REQUESTS, 1)
    merge_dead(root, 2)
    add(worker(3), REQUESTS, 1)
    steps = 0

    def or_die(method: Any) -> Any:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            if steps == step:
                raise KeyboardInterrupt
            steps += 1
            return method(*args, **kwargs)

        return stepped

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", or_die(Path.replace))
        patched.setattr(Path, "unlink", or_die(Path.unlink))
        with pytest.raises(KeyboardInterrupt):
            merge_dead(root, 1)
    assert read_all(root) == {REQUESTS: 12}
    merge_dead(root, 1)
    merge_dead(root, 3)
    assert read_all(root) == {REQUESTS: 12}
    assert files(root) == []


def test_readers_see_each_count_once_while_workers_die(root: Path, worker: Start) -> None:
    add(worker(1), REQUESTS, 1)
    over = threading.Event()
    found: list[float] = []

    def read() -> None:
        while not over.is_set():
            found.append(read_all(root)[REQUESTS])

    reader = threading.Thread(target=read)
    reader.start()
    for pid in range(2, 100):
        add(worker(pid), REQUESTS, 1)
        merge_dead(root, pid - 1)
    over.set()
    reader.join()
    assert found == sorted(found)
    assert found[-1] <= read_all(root)[REQUESTS] == 99
    assert files(root) != []


def test_the_folder_is_bounded(root: Path, worker: Start) -> None:
    for pid in range(200):
        file = worker(pid)
        for number in range(50):
            add(file, Key("counter", "", "a", "a_total", (("number", str(number)),), "Help.").text(), 1)
        merge_dead(root, pid)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        assert size < 10_000
    assert set(read_all(root).values()) == {200}
    assert [path.name for path in root.iterdir() if path.is_file()] == [ARCHIVE]


def test_a_failed_merge_leaves_the_values_where_they_are(root: Path, worker: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    add(worker(1), REQUESTS, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(archive, "write_atomically", full)
        with pytest.raises(OSError, match="no space"):
            merge_dead(root, 1)
    assert read_all(root) == {REQUESTS: 1}


def test_old_versions_are_dropped_only_as_a_whole(root: Path, worker: Start) -> None:
    long_ago = time.time() - KEEP_SECONDS - 1
    first, second = worker(1), worker(2)
    for file in (first, second):
        for version, at in (("old", long_ago), ("new", time.time())):
            add(file, of_version(version), 1)
            put(file, seen(version), at)
        add(file, REQUESTS, 1)
    merge_dead(root, 1)
    assert read_all(root)[of_version("old")] == 2  # a live worker has counts of it, which may be seen again
    merge_dead(root, 2)
    assert read_all(root).keys() == {of_version("new"), seen("new"), REQUESTS}
    assert read_all(root)[of_version("new")] == 2


def test_a_runner_counts_only_what_is_its_own(root: Path, worker: Start) -> None:
    file = worker(1, "yolo")
    allowed = runner_keys("yolo")
    assert allowed is not None
    [first, second, third] = sorted(allowed)
    add(file, first, 2)
    put(file, second, float("inf"))
    put(file, third, -1)
    add(file, REQUESTS, 1)
    add(file, "not a key", 1)
    add(file, first.replace("yolo", "kcbert"), 1)
    assert read_all(root) == {first: 2}
    merge_dead(root, 1)
    assert read_all(root) == {first: 2}


def test_a_runner_cannot_break_a_scrape(root: Path, worker: Start) -> None:
    lines: list[str] = []
    handler = logger.add(lines.append, level="ERROR")
    add(worker(1), REQUESTS, 1)
    (root / "yolo" / f"2-1{SUFFIX}").write_bytes(b"\xff" * 100)
    (root / "yolo" / f"2-2{SUFFIX}").symlink_to("/etc/passwd")
    (root / "yolo" / f"2-3{SUFFIX}").symlink_to("/nowhere")
    (root / "yolo" / f"2-4{SUFFIX}").mkdir()
    assert read_all(root) == {REQUESTS: 1}
    for number in range(MAX_RUNNER_FILES):
        (root / "yolo" / f"3-{number}{SUFFIX}").touch()
    assert read_all(root) == {REQUESTS: 1}
    merge_dead(root, 2)
    merge_dead(root, 3)
    assert read_all(root) == {REQUESTS: 1}
    logger.remove(handler)
    assert lines


def test_a_runner_that_deletes_its_files_is_left_out(root: Path, worker: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    add(worker(1), REQUESTS, 1)
    worker(2, "yolo")

    def read(file: Path, max_bytes: int) -> dict[str, float]:
        if file.parent.name == "yolo":
            raise FileNotFoundError
        return read_values(file, max_bytes)

    monkeypatch.setattr(archive, "read_values", read)
    assert read_all(root) == {REQUESTS: 1}
