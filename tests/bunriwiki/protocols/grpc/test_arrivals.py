from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from bunriwiki.protocols.grpc import freed
from bunriwiki.protocols.grpc.arrivals import (
    BURST_BYTES,
    FREE_BYTES,
    LOOKAHEAD_BYTES,
    OVERHEAD_BYTES,
    Arrivals,
    messages_of,
)
from bunriwiki.protocols.grpc.freed import TRIM_SECONDS
from bunriwiki.protocols.grpc.received import Peer, peer_of
from bunriwiki.protocols.grpc.waits import ArrivalError
from bunriwiki.protocols.handlers.memory import SMALL_BYTES, Memory
from bunriwiki.web.groups import Groups

pytestmark = pytest.mark.anyio

MB = 2**20
CLIENT = "192.0.2.1"  # of ONE
ONE, OTHER = "ipv4:192.0.2.1:1000", "ipv4:192.0.2.2:1000"


class Bench:
    """Arrivals with a large part of 100 MB, and messages of at most 10 MB.

    `received` are the bytes that the kernel has received, by peer, and `resident` those of the process.
    """

    def __init__(self) -> None:
        self.memory = Memory(large_mb=100)
        self.received: dict[Peer, int] = {}
        self.resident = 0
        self.arrivals = Arrivals(self.memory.large, 10 * MB, lambda: self.received, lambda: self.resident)
        self.waits: Groups[Any] = Groups()
        self.now = time.monotonic()
        self.reading: set[asyncio.Future[tuple[int, str]]] = set()

    async def wait(self, peer: str, seconds: float = 30) -> tuple[asyncio.Task[str], asyncio.Future[tuple[int, str]]]:
        """A call that waits, and the future that is its message."""
        message: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

        async def read() -> tuple[int, str]:
            self.reading.add(message)
            return await message

        receiving: Coroutine[Any, Any, str] = self.arrivals.receive(self.arrivals.connection(peer), self.waits, seconds, read)
        task = asyncio.create_task(receiving)
        await asyncio.sleep(0)
        return task, message

    def receive(self, peer: str, size: int) -> None:
        self.received[peer_of(peer)] = self.received.get(peer_of(peer), 0) + size

    async def sweep(self, seconds: float = 0.5) -> None:
        self.now += seconds
        self.arrivals.sweep(self.now)
        for _ in range(5):
            await asyncio.sleep(0)

    def free_mb(self) -> int:
        """What one client may take of the large part."""
        size = next(size for size in range(200, -1, -1) if self.memory.large.take("probe", size * MB))
        self.memory.large.give_back("probe", size * MB)
        return size


async def test_a_message_is_received() -> None:
    bench = Bench()
    task, message = await bench.wait(ONE)
    assert len(bench.waits) == 1
    message.set_result((5, "hello"))
    assert await task == "hello"
    assert len(bench.waits) == 0


async def test_a_message_that_takes_too_long_is_not_waited_for() -> None:
    bench = Bench()
    task, _ = await bench.wait(ONE, seconds=30)
    await bench.sweep(29)
    assert not task.done()
    await bench.sweep(2)
    with pytest.raises(ArrivalError) as error:
        await task
    assert error.value.reason == "time"
    assert len(bench.waits) == 0


async def test_a_glance_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, loop = Bench(), asyncio.get_running_loop()
    task, _ = await bench.wait(ONE)
    later: list[object] = []

    def fail(now: float) -> None:
        raise OSError("no free file")

    with monkeypatch.context() as patched:
        patched.setattr(bench.arrivals, "glance", fail)
        patched.setattr(loop, "call_later", lambda seconds, call, *rest: later.append(call))
        with pytest.raises(OSError, match="no free file"):
            bench.arrivals._keep_glancing(loop)
    assert later == [bench.arrivals._keep_glancing]
    task.cancel()


async def test_a_call_of_a_client_without_room_for_the_largest_message_does_not_read_a_large_one() -> None:
    bench = Bench()
    assert bench.memory.large.take(CLIENT, 40 * MB + 1)
    large, message = await bench.wait(ONE)
    honest, other = await bench.wait(OTHER)
    assert bench.reading == {other}
    bench.receive(ONE, LOOKAHEAD_BYTES)
    await bench.sweep()
    with pytest.raises(ArrivalError) as error:
        await large
    assert error.value.reason == "memory"
    assert message not in bench.reading
    assert not honest.done()
    honest.cancel()
    await bench.sweep()
    bench.memory.large.give_back(CLIENT, 40 * MB + 1)
    assert bench.free_mb() == 50


async def test_what_had_arrived_of_it_when_the_call_began_was_not_delivered() -> None:
    bench = Bench()
    bench.arrivals.connection(ONE)
    bench.receive(ONE, 1000)
    await bench.sweep()
    assert bench.memory.large.take(CLIENT, 40 * MB + 1)
    bench.receive(ONE, LOOKAHEAD_BYTES)
    await bench.sweep()
    large, message = await bench.wait(ONE)
    await bench.sweep()
    with pytest.raises(ArrivalError):
        await large
    assert message not in bench.reading


async def test_what_arrived_without_a_call_was_delivered_by_the_second_sweep() -> None:
    """Messages of health checks, for example, which nothing counts."""
    bench = Bench()
    bench.arrivals.connection(ONE)
    bench.receive(ONE, LOOKAHEAD_BYTES)
    await bench.sweep()
    await bench.sweep()
    assert bench.free_mb() == 50
    assert bench.memory.large.take(CLIENT, 40 * MB + 1)
    small, message = await bench.wait(ONE)
    await bench.sweep()
    assert bench.reading == {message}
    small.cancel()


async def test_a_call_of_such_a_client_reads_a_small_message_at_the_next_sweep() -> None:
    bench = Bench()
    assert bench.memory.large.take(CLIENT, 40 * MB + 1)
    small, message = await bench.wait(ONE)
    idle, other = await bench.wait(ONE)
    bench.receive(ONE, SMALL_BYTES + 1000)
    await bench.sweep()
    assert bench.reading == {message, other}
    message.set_result((SMALL_BYTES, "small"))
    assert await small == "small"
    idle.cancel()


async def test_such_a_call_reads_once_there_is_room() -> None:
    bench = Bench()
    assert bench.memory.large.take(CLIENT, 40 * MB + 1)
    task, message = await bench.wait(ONE)
    bench.receive(ONE, LOOKAHEAD_BYTES)
    bench.memory.large.give_back(CLIENT, 40 * MB + 1)
    await bench.sweep()
    assert bench.reading == {message}
    task.cancel()


async def test_such_a_call_waits_while_another_message_arrives_on_its_connection() -> None:
    """Which of both the bytes are of is not known."""
    bench = Bench()
    uploading, upload = await bench.wait(ONE)
    assert bench.memory.large.take(CLIENT, 40 * MB + 1)
    small, message = await bench.wait(ONE, seconds=30)
    bench.receive(ONE, 2 * MB + FREE_BYTES)
    await bench.sweep()
    assert bench.reading == {upload}
    upload.set_result((2 * MB, "whole"))
    assert await uploading == "whole"
    await bench.sweep()
    assert bench.reading == {upload, message}
    small.cancel()


async def test_a_call_that_never_could_read_was_not_too_slow() -> None:
    bench = Bench()
    uploading, _ = await bench.wait(ONE, seconds=60)
    assert bench.memory.large.take(CLIENT, 40 * MB + 1)
    small, _ = await bench.wait(ONE, seconds=30)
    bench.receive(ONE, 2 * MB)
    await bench.sweep(31)
    with pytest.raises(ArrivalError) as error:
        await small
    assert error.value.reason == "memory"
    assert not uploading.done()
    uploading.cancel()


async def test_a_call_reads_if_nothing_is_known_of_its_connection() -> None:
    bench = Bench()
    assert bench.memory.large.take(CLIENT, 40 * MB + 1)
    task, message = await bench.wait(ONE)
    await bench.sweep()
    assert bench.reading == {message}
    task.cancel()


def test_more_arrives_unread_than_a_small_message_has() -> None:
    assert SMALL_BYTES < FREE_BYTES < LOOKAHEAD_BYTES


async def test_what_is_arriving_counts_as_memory_until_it_is_delivered() -> None:
    bench = Bench()
    task, message = await bench.wait(ONE)
    bench.receive(ONE, 20 * MB + FREE_BYTES)
    await bench.sweep()
    assert bench.free_mb() == 40  # half of what is left
    message.set_result((20 * MB, ""))
    await task
    assert bench.free_mb() == 50  # at once: from now on the request holds it
    await bench.sweep()
    assert bench.free_mb() == 50


async def test_the_frames_of_messages_do_not_add_up() -> None:
    bench = Bench()
    idle, _ = await bench.wait(ONE, seconds=300)
    for _ in range(1000):
        task, message = await bench.wait(ONE)
        bench.receive(ONE, MB + MB // 2**14 * (9 + 22))
        message.set_result((MB, ""))
        await task
    await bench.sweep()
    assert bench.free_mb() == 50
    idle.cancel()


async def test_idle_streams_count_nothing() -> None:
    bench = Bench()
    tasks = [(await bench.wait(ONE, seconds=300))[0] for _ in range(100)]
    bench.receive(ONE, 100 * OVERHEAD_BYTES)
    await bench.sweep()
    assert bench.free_mb() == 50
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()


async def test_a_client_without_memory_loses_the_calls_of_that_connection_and_no_other_client_does() -> None:
    bench = Bench()
    honest, message = await bench.wait(OTHER)
    tasks = [(await bench.wait(ONE))[0] for _ in range(10)]
    bench.receive(ONE, 100 * MB)
    bench.receive(OTHER, 5 * MB)
    await bench.sweep()
    for task in tasks:
        with pytest.raises(ArrivalError) as error:
            await task
        assert error.value.reason == "memory"
    assert not honest.done()
    message.set_result((5 * MB, "whole"))
    assert await honest == "whole"
    await bench.sweep()
    assert bench.free_mb() == 50


async def test_calls_that_are_answered_hide_nothing() -> None:
    """On the connection of an unfinished message, other calls go on."""
    bench = Bench()
    unfinished, _ = await bench.wait(ONE)
    bench.receive(ONE, 20 * MB)
    for _ in range(1000):
        task, message = await bench.wait(ONE)
        bench.receive(ONE, 1100)
        message.set_result((1000, ""))
        await task
    await bench.sweep()
    assert bench.free_mb() == 40
    unfinished.cancel()


async def test_what_arrives_for_a_call_that_lingers_is_counted_and_ends_it() -> None:
    bench = Bench()
    connection = bench.arrivals.connection(ONE)
    lingering = [asyncio.create_task(bench.arrivals.linger(connection, 1000)) for _ in range(2)]
    await asyncio.sleep(0)
    await bench.sweep()
    bench.receive(ONE, FREE_BYTES)
    await bench.sweep()
    assert not any(task.done() for task in lingering)
    bench.receive(ONE, 20 * MB)
    await bench.sweep()
    assert all(task.done() for task in lingering)
    await bench.sweep()
    assert bench.free_mb() == 50


async def test_a_call_lingers_for_some_time() -> None:
    bench = Bench()
    await bench.arrivals.linger(bench.arrivals.connection(ONE), 0.01)
    assert not bench.arrivals.connection(ONE).lingering


async def test_the_memory_of_a_connection_that_is_gone_is_free() -> None:
    bench = Bench()
    task, _ = await bench.wait(ONE)
    bench.receive(ONE, 20 * MB)
    await bench.sweep()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    bench.received.clear()
    await bench.sweep()
    assert bench.free_mb() == 50
    assert not bench.arrivals._connections


async def test_what_arrives_is_counted_as_soon_as_the_process_has_grown() -> None:
    bench = Bench()
    task, _ = await bench.wait(ONE)
    bench.arrivals.sweep(bench.now)
    bench.receive(ONE, 20 * MB + FREE_BYTES)
    bench.resident += BURST_BYTES - 1
    bench.arrivals.glance(bench.now)
    assert bench.free_mb() == 50
    bench.resident += 1
    bench.arrivals.glance(bench.now)
    assert bench.free_mb() == 40
    task.cancel()


async def test_growth_is_measured_from_the_least_memory_since_the_last_sweep() -> None:
    bench = Bench()
    bench.resident = 100 * MB
    task, _ = await bench.wait(ONE)
    bench.arrivals.sweep(bench.now)
    bench.resident = 50 * MB
    bench.arrivals.glance(bench.now)
    bench.receive(ONE, 20 * MB + FREE_BYTES)
    bench.resident += BURST_BYTES
    bench.arrivals.glance(bench.now)
    assert bench.free_mb() == 40
    task.cancel()


async def test_what_ended_calls_had_is_given_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed = threading.Semaphore(0)
    monkeypatch.setattr(freed, "trim", trimmed.release)
    bench = Bench()
    tasks = [(await bench.wait(peer))[0] for peer in (ONE, OTHER)]
    for peer in (ONE, OTHER):
        bench.receive(peer, 100 * MB)
    await bench.sweep()
    await asyncio.gather(*tasks, return_exceptions=True)
    bench.arrivals.glance(bench.now + TRIM_SECONDS / 2)
    assert not trimmed.acquire(blocking=False)
    bench.arrivals.glance(bench.now + TRIM_SECONDS)
    assert await asyncio.to_thread(trimmed.acquire, timeout=10)


async def test_a_client_that_cancels_is_no_error_of_the_wait() -> None:
    bench = Bench()
    task, _ = await bench.wait(ONE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(bench.waits) == 0


async def test_it_sweeps_by_itself_while_there_are_connections() -> None:
    bench = Bench()
    task, message = await bench.wait(ONE, seconds=0.01)
    with pytest.raises(ArrivalError):
        async with asyncio.timeout(10):
            await task
    assert message.cancelled()


def test_the_size_of_a_message_goes_with_it() -> None:
    assert messages_of(bytes.decode)(b"abc") == (3, "abc")
    assert messages_of(None)(b"abc") == (3, b"abc")
