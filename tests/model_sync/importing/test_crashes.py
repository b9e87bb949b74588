from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from model_sync.importing.crashes import CrashCounter


class SlowDigest(str):
    """Another thread runs whenever a dictionary looks this key up."""

    __slots__ = ()

    def __hash__(self) -> int:
        time.sleep(0.001)
        return super().__hash__()


def test_crashes_are_counted_by_digest() -> None:
    counter = CrashCounter()
    assert [counter.add(digest) for digest in ("d1", "d1", "d2", "d1")] == [1, 2, 1, 3]


def test_two_threads_count_every_crash() -> None:
    counter, digest = CrashCounter(), SlowDigest("d1")
    with ThreadPoolExecutor(2) as threads:
        counts = list(threads.map(lambda _: counter.add(digest), range(50)))
    assert sorted(counts) == list(range(1, 51))
