from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from runners.throttle import LONGEST_REST, SHARE, LoadThrottle, turn


def test_one_after_the_other(tmp_path: Path) -> None:
    busy, most = 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal busy, most
        with turn(tmp_path, 10):
            with counting:
                busy += 1
                most = max(most, busy)
            time.sleep(0.02)
            with counting:
                busy -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_patience_ends(tmp_path: Path) -> None:
    begun = time.monotonic()
    with turn(tmp_path, 10), turn(tmp_path, 0.1):
        assert 0.1 <= time.monotonic() - begun < 5


def test_the_dead_hold_nobody_up(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with turn(tmp_path, 10):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    begun = time.monotonic()
    with turn(tmp_path, 10):
        assert time.monotonic() - begun < 5


def test_a_volume_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with turn(tmp_path, 10), turn(tmp_path, 10):
        pass


def test_a_load_works_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    pace = LoadThrottle()
    now[0] += 0.1
    pace.rest()
    now[0] += 60
    pace.rest()
    assert slept == [pytest.approx(0.1 * (1 - SHARE) / SHARE), LONGEST_REST]
