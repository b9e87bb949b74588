"""Loading in turn."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_EVERY = 0.05  # seconds


@contextmanager
def turn(path: Path, patience: float) -> Iterator[None]:
    """Wait until no other worker is between the start and the end of its `turn(path)`, but no longer than `patience` seconds.

    Workers of one model that load beside serving do it one after the other, and leave the other cores to those that answer. One
    that is stuck holds the others up for `patience` only; one that dies, not at all.
    """
    try:
        stream = path.open("a")
    except OSError:
        yield  # a store that cannot be written to: better at the same time than not at all
        return
    with stream:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOOK_EVERY)
        yield
