from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from runners.throttle import DUTY_CYCLE, MAX_PAUSE_SECONDS, POLL_SECONDS, LoadThrottle, load_lock


def test_one_load_at_a_time(tmp_path: Path) -> None:
    events: list[str] = []
    with ExitStack() as first:
        first.enter_context(load_lock(tmp_path, 10))

        def wait(_: float) -> None:
            events.append("waits")
            if len(events) == 3:
                first.close()

        with load_lock(tmp_path, 10, sleep=wait):
            events.append("loads")
    assert events == ["waits", "waits", "waits", "loads"]


def test_the_wait_for_the_lock_has_a_timeout(tmp_path: Path) -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    with load_lock(tmp_path, 10), load_lock(tmp_path, 1, clock=lambda: now[0], sleep=sleep):
        assert now[0] == pytest.approx(101, abs=2 * POLL_SECONDS)
    assert slept


def test_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with load_lock(tmp_path, 10):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    begun = time.monotonic()
    with load_lock(tmp_path, 60):
        assert time.monotonic() - begun < 30


def test_a_volume_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with load_lock(tmp_path, 10), load_lock(tmp_path, 10):
        pass


def test_a_load_works_a_share_of_the_time() -> None:
    now, slept = [100.0], list[float]()
    throttle = LoadThrottle(lambda: now[0], slept.append)
    now[0] += 0.1
    throttle.pause()
    now[0] += 60
    throttle.pause()
    assert slept == [pytest.approx(0.1 * (1 - DUTY_CYCLE) / DUTY_CYCLE), MAX_PAUSE_SECONDS]
