"""What a request costs the process that answers it: memory per byte of its body, and time on the event loop."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from asyncio import events
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Scope

MAX_BYTES_PER_BYTE = 4
FIXED_BYTES = 512 * 2**10  # of any request, however short its body is
MAX_SECONDS = 0.05
CHUNK_BYTES = 64 * 2**10  # of a body, as a server gets it from its socket


@dataclass
class Cost:
    """`peak_bytes` were allocated at most at a time; `loop_seconds` is the CPU time of the longest step of the loop."""

    status: int
    body_bytes: int
    peak_bytes: int
    loop_seconds: float

    @property
    def is_bounded(self) -> bool:
        """Whether the request cost no more than any request may."""
        return self.peak_bytes <= MAX_BYTES_PER_BYTE * self.body_bytes + FIXED_BYTES and self.loop_seconds <= MAX_SECONDS


class LongestStep:
    """The CPU time of the longest step of the event loop, in seconds. Other processes do not make it longer."""

    seconds = 0.0


@contextmanager
def longest_step() -> Iterator[LongestStep]:
    """Measures the steps of the loops of this thread: each runs until its task waits for something."""
    found = LongestStep()
    run = events.Handle._run

    def measured(handle: Any) -> None:
        begun = time.thread_time()
        run(handle)
        found.seconds = max(found.seconds, time.thread_time() - begun)

    events.Handle._run = measured  # type: ignore[method-assign,assignment]
    try:
        yield found
    finally:
        events.Handle._run = run  # type: ignore[method-assign]


def request_of(method: str, path: str, headers: Sequence[tuple[bytes, bytes]] = (), query: bytes = b"") -> Scope:
    """An HTTP request, as an ASGI server gives it to an application."""
    return {
        "type": "http", "http_version": "1.1", "scheme": "http", "method": method, "path": path, "query_string": query,
        "headers": [(b"host", b"test"), *headers], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "root_path": "",
    }  # fmt: skip


def cost_of(app: ASGIApp, request: Scope, body: bytes) -> Cost:
    """Have `app` answer a request, four times: the time is the shortest, without what the measurement of memory costs."""
    seconds = []
    for _ in range(3):
        with longest_step() as step:
            status = asyncio.run(_answer(app, request, body))
        seconds.append(step.seconds)
    tracemalloc.start()
    try:
        asyncio.run(_answer(app, request, body))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Cost(status, len(body), peak, min(seconds))


async def _answer(app: ASGIApp, request: Scope, body: bytes) -> int:
    """The status of the response."""
    place = status = 0

    async def receive() -> Message:
        nonlocal place
        if place > len(body):
            await asyncio.Event().wait()  # the client keeps its connection open
        chunk = body[place : place + CHUNK_BYTES]
        place += CHUNK_BYTES
        if place >= len(body):
            place = len(body) + 1
        return {"type": "http.request", "body": chunk, "more_body": place <= len(body)}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    await app({**request}, receive, send)
    return status
