"""What ended calls had is given back once: when it is time to, or as soon as the process has grown."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bunriwiki.protocols.grpc import freed
from bunriwiki.protocols.grpc.freed import TRIM_BYTES, TRIM_SECONDS, FreedMemory

pytestmark = pytest.mark.anyio


class Bench:
    """Freed memory, and a trim that waits until it may end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resident = 0
        self.trims = 0
        self.may_end = threading.Semaphore(0)
        self.freed = FreedMemory(lambda: self.resident)
        monkeypatch.setattr(freed, "trim", self._trim)

    def _trim(self) -> None:
        self.trims += 1
        assert self.may_end.acquire(timeout=10)

    async def end_trim(self) -> None:
        self.may_end.release()
        while self.freed._trimming:
            await asyncio.sleep(0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_it_is_time_after_some_time(bench: Bench) -> None:
    bench.freed.ended(100)
    bench.freed.ended(100 + TRIM_SECONDS / 2)
    bench.freed.glance(100 + TRIM_SECONDS * 0.9)
    assert bench.trims == 0
    bench.freed.glance(100 + TRIM_SECONDS)
    await bench.end_trim()
    assert bench.trims == 1


async def test_growth_since_the_last_time_is_not_waited_for(bench: Bench) -> None:
    bench.freed.ended(100)
    bench.resident = 100 * TRIM_BYTES
    bench.freed.glance(100)
    bench.resident = 50 * TRIM_BYTES
    await bench.end_trim()
    bench.freed.ended(100)
    bench.resident += TRIM_BYTES - 1
    bench.freed.glance(100)
    assert bench.trims == 1
    bench.resident += 1
    bench.freed.glance(100)
    await bench.end_trim()
    assert bench.trims == 2


async def test_there_is_one_at_a_time_and_none_without_ended_calls(bench: Bench) -> None:
    bench.resident = TRIM_BYTES
    bench.freed.glance(100)
    assert bench.trims == 0
    bench.freed.ended(100)
    bench.freed.glance(100)
    bench.freed.ended(100)
    bench.freed.glance(200)
    await bench.end_trim()
    assert bench.trims == 1
    bench.freed.glance(200)  # the call that was ended meanwhile
    await bench.end_trim()
    bench.freed.glance(300)
    assert bench.trims == 2
