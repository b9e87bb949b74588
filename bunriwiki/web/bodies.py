"""Reading the body of a request, bounded in size, in time and by a least rate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from bunriwiki.web import problems

CLOSE = {"Connection": "close"}  # the rest of a rejected body is still on its way
MAX_COMMAND_BYTES = 64 * 2**10  # of a body that has no tensor, no photo and no text to classify
CHECK_SECONDS = 1.0  # at most, between two checks of the bodies that are arriving

Resize: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How fast a body has to arrive.

    The whole body within `seconds`, and at least `min_bytes_per_second` on average in every `grace_seconds`. A body has up to
    two times `CHECK_SECONDS` more, as it is checked that often.
    """

    seconds: float
    min_bytes_per_second: int = 0
    grace_seconds: float = 10.0


@dataclass(slots=True, eq=False)
class _Watched:
    """A body that a check has found: the times are the loop's, and `window` is where the current `grace_seconds` began."""

    began: float
    window: float
    size_at_window: int
    cancelling: int  # requests to cancel its task, before any of a check
    late: str = ""


class BodyReader:
    """Reads the bodies of one event loop. One timer checks all bodies that are arriving, and runs only while there are any.

    A body that arrived together with its head ends before a check finds it, so no clock is read for it. The time of any other
    begins with the first check that finds it.
    """

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._every = min(CHECK_SECONDS, limits.seconds / 4, limits.grace_seconds / 4)
        self._arriving: dict[asyncio.Task[Any], int] = {}  # the bytes that are there of each body, by the task that reads it
        self._watched: dict[asyncio.Task[Any], _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, scope: Scope, receive: Receive, *, max_bytes: int, resize: Resize | None = None) -> bytes:
        """The whole body of a request.

        `resize` is called with the size of the body so far and with the next one, before a chunk is kept, and may raise an
        error of its own. After an error, it was called with the size 0 at last.

        Raises RequestError with status 413 as soon as the body is known to have more than `max_bytes`, and with 408 when it
        arrives more slowly than its limits allow; ClientDisconnect when the client closes the connection before the end of the
        body.
        """
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > max_bytes:
                raise _too_large(max_bytes, CLOSE)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A body is read in a task.")
        self._arriving[task] = 0
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._every, self._check, loop)
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body", False) or message["type"] == "http.disconnect" or len(body) > max_bytes:
                return await self._collect(task, message, receive, max_bytes, resize)
            if resize is not None and body:
                resize(0, len(body))
            return body
        except asyncio.CancelledError:
            if late := self._why_cancelled(task):
                raise problems.RequestError(408, late, dict(CLOSE)) from None
            raise
        finally:
            del self._arriving[task]
            self._watched.pop(task, None)

    async def _collect(
        self, task: asyncio.Task[Any], message: Message, receive: Receive, max_bytes: int, resize: Resize | None
    ) -> bytes:
        """A body of more than one message, of which `message` is the first."""
        body = bytearray()  # not a list: a client may send chunks of one byte
        held = 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                size = held + len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes, CLOSE if more else {})
                if resize is not None and chunk:
                    resize(held, size)
                self._arriving[task] = held = size
                body += chunk
                if not more:
                    return bytes(body)
                message = await receive()
        except BaseException:
            if resize is not None:
                resize(held, 0)
            raise

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, size in self._arriving.items():
            watched = self._watched.get(task)
            if watched is None:
                self._watched[task] = _Watched(now, now, size, task.cancelling())
            elif not watched.late and (late := self._late(watched, size, now)):
                watched.late = late
                task.cancel()
        self._timer = loop.call_later(self._every, self._check, loop) if self._arriving else None

    def _late(self, watched: _Watched, size: int, now: float) -> str:
        """Why a body is too slow; empty if it is not."""
        limits = self._limits
        if now - watched.began >= limits.seconds:
            return f"The body did not arrive within {limits.seconds:g} s. Send it faster."
        if now - watched.window >= limits.grace_seconds:
            if size - watched.size_at_window < limits.min_bytes_per_second * limits.grace_seconds:
                return (
                    f"The body arrived with less than {limits.min_bytes_per_second} bytes per second for "
                    f"{limits.grace_seconds:g} s. Send it faster."
                )
            watched.window, watched.size_at_window = now, size
        return ""

    def _why_cancelled(self, task: asyncio.Task[Any]) -> str:
        """Why a check, and nobody else, has cancelled a task; empty if it has not. As asyncio.timeout does it."""
        watched = self._watched.get(task)
        return watched.late if watched and watched.late and task.uncancel() <= watched.cancelling else ""


def _too_large(max_bytes: int, headers: Mapping[str, str]) -> problems.RequestError:
    return problems.RequestError(413, f"The body has more than {_readable(max_bytes)}. Send a smaller body.", dict(headers))


def _readable(size: int) -> str:
    for unit, factor in (("MB", 2**20), ("KB", 2**10)):
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"
