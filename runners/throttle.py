"""Loading beside serving without being in its way: in turn, and at a pace."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.05  # seconds
SHARE = 0.25  # of the time that a load may work
LONGEST_REST = 1.0  # seconds

Rest = Callable[[], None]


def no_rest() -> None:
    """For loads that are in nobody's way."""


class LoadThrottle:
    """Gives a load its rests: a thread that has no lower priority (it holds the interpreter's lock) works less instead."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def rest(self) -> None:
        """To be called between two pieces of work: sleeps in proportion to what was worked."""
        worked = time.monotonic() - self._since
        time.sleep(min(LONGEST_REST, worked * (1 / SHARE - 1)))
        self._since = time.monotonic()


@contextmanager
def turn(folder: Path, patience: float) -> Iterator[None]:
    """Wait until no other process is between start and end of its `turn(folder)`, but no longer than `patience` seconds.

    Workers of one model that load beside serving do it one after the other, and leave the other cores to those that answer. One
    that is stuck holds the others up for `patience` only; one that dies, not at all.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(POLL_SECONDS)
            except OSError:
                break  # a volume without locks: better at the same time than not at all
        yield
    finally:
        os.close(descriptor)
