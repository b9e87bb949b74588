"""Keeps loads from slowing down requests: workers of one model load one after the other, and each load pauses in between."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.05  # between two attempts to take the lock
DUTY_CYCLE = 0.25  # the share of the time that a throttled load works
MAX_PAUSE_SECONDS = 1.0

Pause = Callable[[], None]  # called between two pieces of a load, which it may delay


def unthrottled() -> None:
    """The pause of a load beside which nothing serves: none."""


class LoadThrottle:
    """Lets a load work for a share of the time, `DUTY_CYCLE`.

    A lower priority does not help: the thread that loads holds the interpreter's lock, for which the other threads wait.
    `clock` and `sleep` are in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._since = clock()

    def pause(self) -> None:
        """Sleep in proportion to the time since the last pause, for at most `MAX_PAUSE_SECONDS`."""
        worked = self._clock() - self._since
        self._sleep(min(MAX_PAUSE_SECONDS, worked * (1 / DUTY_CYCLE - 1)))
        self._since = self._clock()


@contextmanager
def load_lock(
    folder: Path,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock on `folder` that the workers of one model share, so that one of them loads at a time.

    After `timeout` seconds of waiting, and on a volume without locks, the body runs without the lock: a worker that is stuck
    delays the others only so long. The kernel releases the lock of a worker that dies.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = clock() + timeout
        while clock() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                sleep(POLL_SECONDS)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)
