from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from bunriwiki.web.bodies import BodyReader, ReadLimits
from bunriwiki.web.problems import RequestError

pytestmark = pytest.mark.anyio

CUT = None  # in place of a chunk: the client closes the connection
UNANNOUNCED: Scope = {"type": "http", "headers": []}


class Clock:
    now = 0.0


def receiving(*chunks: bytes | None, seconds: float = 0) -> Receive:
    """An ASGI `receive` that gives the chunks of a body, each after `seconds`, and at `CUT` or their end a disconnect."""
    left = list(chunks)

    async def receive() -> Message:
        await asyncio.sleep(seconds)
        chunk = left.pop(0) if left else CUT
        if chunk is CUT:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    return receive


def announcing(size: int) -> Scope:
    """The scope of a request that says how large its body is."""
    return {"type": "http", "headers": [(b"host", b"x"), (b"content-length", b"%d" % size)]}


async def read(*chunks: bytes, seconds: float = 0, scope: Scope = UNANNOUNCED) -> bytes:
    return await BodyReader(ReadLimits(0.05)).read(scope, receiving(*chunks, seconds=seconds), max_bytes=4)


def reader() -> BodyReader:
    return BodyReader(ReadLimits(1))


@pytest.mark.parametrize("chunks", [(b"",), (b"abcd",), (b"ab", b"", b"cd")])
async def test_a_body_is_read_whole(chunks: Sequence[bytes]) -> None:
    assert await read(*chunks) == b"".join(chunks)
    assert await read(*chunks, scope=announcing(4)) == b"".join(chunks)


async def test_a_large_body_is_rejected_before_its_end() -> None:
    receive = receiving(b"abc", b"de", b"f")
    with pytest.raises(RequestError, match="more than 4 bytes") as rejected:
        await reader().read(UNANNOUNCED, receive, max_bytes=4)
    assert (rejected.value.status, rejected.value.headers) == (413, {"Connection": "close"})
    assert (await receive())["body"] == b"f"


async def test_a_large_body_that_is_announced_is_not_read() -> None:
    receive = receiving(b"abcde")
    with pytest.raises(RequestError, match="more than 4 bytes"):
        await reader().read(announcing(5), receive, max_bytes=4)
    assert (await receive())["body"] == b"abcde"


@pytest.mark.parametrize(("max_bytes", "words"), [(10 * 2**20, "10 MB"), (2**17, "128 KB"), (1_000_000, "1000000 bytes")])
async def test_the_limit_is_stated(max_bytes: int, words: str) -> None:
    with pytest.raises(RequestError, match=f"more than {words}"):
        await reader().read(announcing(10**9), receiving(), max_bytes=max_bytes)


async def test_a_slow_body_is_rejected() -> None:
    with pytest.raises(RequestError, match=r"within 0\.05 s") as rejected:
        await read(b"a", b"b", b"c", seconds=0.03)
    assert (rejected.value.status, rejected.value.headers) == (408, {"Connection": "close"})


async def test_a_body_that_is_cut_off() -> None:
    with pytest.raises(ClientDisconnect):
        await read()


class Room:
    """Memory for three bytes, and how much a body had of it."""

    def __init__(self) -> None:
        self.sizes = [0]

    def resize(self, held: int, size: int) -> None:
        assert held == self.sizes[-1]
        if size > 3:
            raise MemoryError
        self.sizes.append(size)


@pytest.mark.parametrize("chunks", [(b"abc",), (b"ab", b"", b"c")])
async def test_memory_is_taken_for_each_chunk_before_it_is_kept(chunks: Sequence[bytes]) -> None:
    room = Room()
    assert await reader().read(UNANNOUNCED, receiving(*chunks), max_bytes=10, resize=room.resize) == b"abc"
    assert room.sizes == [0, *([2, 3] if len(chunks) > 1 else [3])]


@pytest.mark.parametrize(
    ("chunks", "error"), [((b"ab", b"cd"), MemoryError), ((b"ab", b"x" * 10), RequestError), ((b"ab", CUT), ClientDisconnect)]
)
async def test_a_body_that_is_not_read_to_its_end_leaves_no_memory_taken(
    chunks: Sequence[bytes | None], error: type[BaseException]
) -> None:
    room = Room()
    with pytest.raises(error):
        await reader().read(UNANNOUNCED, receiving(*chunks), max_bytes=10, resize=room.resize)
    assert room.sizes == [0, 2, 0]


async def test_a_request_that_is_cancelled_leaves_no_memory_taken() -> None:
    room = Room()
    reading = asyncio.ensure_future(
        reader().read(UNANNOUNCED, receiving(b"ab", b"c", seconds=0.01), max_bytes=10, resize=room.resize)
    )
    while room.sizes == [0]:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert room.sizes == [0, 2, 0]


async def test_a_body_has_a_least_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, clock = asyncio.get_running_loop(), Clock()
    monkeypatch.setattr(loop, "time", lambda: clock.now)
    reader = BodyReader(ReadLimits(seconds=3000, min_bytes_per_second=100, grace_seconds=30))

    async def body(*chunks: bytes) -> bytes:
        """Read the chunks, of which one arrives every 5 s; the reader checks what has arrived after each."""
        left = list(chunks)

        async def receive() -> Message:
            reader._check(loop)
            clock.now += 5
            reader._check(loop)
            await asyncio.sleep(0)
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        return await reader.read(UNANNOUNCED, receive, max_bytes=100_000)

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
        await reader.read(UNANNOUNCED, ready({"type": "http.request", "body": b"x"}), max_bytes=1)
    await asyncio.sleep(0.05)  # which sets a timer as well
    assert calls == [0.01, 0.05]


async def test_chunks_of_one_byte_take_no_more_memory_than_one_chunk() -> None:
    size = 50_000
    left = iter(range(size - 1, -1, -1))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x", "more_body": next(left) > 0}

    tracemalloc.start()
    try:
        assert len(await reader().read(UNANNOUNCED, receive, max_bytes=size)) == size
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()
