from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from bunriwiki.web.bodies import BodyReader, ReadLimits
from bunriwiki.web.problems import RequestError

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0


def receiving(*chunks: bytes, seconds: float = 0) -> Receive:
    """An ASGI `receive` that gives the chunks of a body, each after `seconds`, and then a disconnect."""
    left = list(chunks)

    async def receive() -> Message:
        await asyncio.sleep(seconds)
        if not left:
            return {"type": "http.disconnect"}
        chunk = left.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    return receive


async def read(*chunks: bytes, seconds: float = 0, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await BodyReader(ReadLimits(0.05)).read(named, receiving(*chunks, seconds=seconds), max_bytes=4)


def reader() -> BodyReader:
    return BodyReader(ReadLimits(1))


@pytest.mark.parametrize("chunks", [(b"",), (b"abcd",), (b"ab", b"", b"cd")])
async def test_a_body_is_read_whole(chunks: Sequence[bytes]) -> None:
    assert await read(*chunks) == b"".join(chunks)
    assert await read(*chunks, content_length="4") == b"".join(chunks)


async def test_a_large_body_is_rejected_before_its_end() -> None:
    receive = receiving(b"abc", b"de", b"f")
    with pytest.raises(RequestError, match="more than 4 bytes") as rejected:
        await reader().read({}, receive, max_bytes=4)
    assert (rejected.value.status, rejected.value.headers) == (413, {"Connection": "close"})
    assert (await receive())["body"] == b"f"


async def test_a_large_body_that_is_announced_is_not_read() -> None:
    receive = receiving(b"abcde")
    with pytest.raises(RequestError, match="more than 4 bytes"):
        await reader().read({"content-length": "5"}, receive, max_bytes=4)
    assert (await receive())["body"] == b"abcde"


@pytest.mark.parametrize(("max_bytes", "words"), [(10 * 2**20, "10 MB"), (2**17, "128 KB"), (1_000_000, "1000000 bytes")])
async def test_the_limit_is_stated(max_bytes: int, words: str) -> None:
    with pytest.raises(RequestError, match=f"more than {words}"):
        await reader().read({"content-length": str(10**9)}, receiving(), max_bytes=max_bytes)


async def test_a_slow_body_is_rejected() -> None:
    with pytest.raises(RequestError, match=r"within 0\.05 s") as rejected:
        await read(b"a", b"b", b"c", seconds=0.03)
    assert (rejected.value.status, rejected.value.headers) == (408, {"Connection": "close"})


async def test_a_body_that_is_cut_off() -> None:
    with pytest.raises(ClientDisconnect):
        await read()


async def test_each_chunk_is_reserved_before_it_is_kept() -> None:
    reserved: list[int] = []

    def reserve(size: int) -> None:
        if sum(reserved) + size > 3:
            raise MemoryError
        reserved.append(size)

    assert await reader().read({}, receiving(b"ab", b"c"), max_bytes=10, reserve=reserve) == b"abc"
    with pytest.raises(MemoryError):
        await reader().read({}, receiving(b"d"), max_bytes=10, reserve=reserve)
    assert reserved == [2, 1]


async def test_a_body_has_a_least_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, clock = asyncio.get_running_loop(), Clock()
    monkeypatch.setattr(loop, "time", lambda: clock.now)
    reader = BodyReader(ReadLimits(seconds=3000, min_bytes_per_second=100, grace_seconds=30))

    async def body(*chunks: bytes) -> bytes:
        """Read the chunks, of which one arrives every 5 s; the reader checks what has arrived after each."""
        left = list(chunks)

        async def receive() -> Message:
            clock.now += 5
            reader._check(loop)
            await asyncio.sleep(0)
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        return await reader.read({}, receive, max_bytes=100_000)

    assert await body(*[b"x" * 600] * 20) == b"x" * 12_000
    assert await body(b"x" * 50_000, *[b""] * 5) == b"x" * 50_000
    with pytest.raises(RequestError, match="less than 100 bytes per second for 30 s") as rejected:
        await body(b"x" * 50_000, *[b""] * 12)
    assert (rejected.value.status, rejected.value.headers) == (408, {"Connection": "close"})
    assert clock.now == 5 * (20 + 6 + 12)


async def test_one_timer_watches_all_bodies_and_ends_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    calls: list[float] = []
    call_later = loop.call_later

    def counting(delay: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        calls.append(delay)
        return call_later(delay, *rest, **more)

    def ready(message: Message) -> Receive:
        async def receive() -> Message:
            return message

        return receive

    monkeypatch.setattr(loop, "call_later", counting)
    reader = BodyReader(ReadLimits(seconds=0.04))
    for _ in range(100):
        await reader.read({}, ready({"type": "http.request", "body": b"x"}), max_bytes=1)
    await asyncio.sleep(0.05)  # which sets a timer as well
    assert calls == [0.01, 0.05]


async def test_chunks_of_one_byte_take_no_more_memory_than_one_chunk() -> None:
    size = 50_000
    left = iter(range(size - 1, -1, -1))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x", "more_body": next(left) > 0}

    tracemalloc.start()
    try:
        assert len(await reader().read({}, receive, max_bytes=size)) == size
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()
