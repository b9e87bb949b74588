"""Reading the body of a request, bounded in size, in time and by a least rate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from bunriwiki.web import problems

CLOSE = {"Connection": "close"}  # the rest of a rejected body is still on its way
MAX_COMMAND_BYTES = 64 * 2**10  # of a body that has no tensor, no photo and no text to classify
CHECK_SECONDS = 1.0  # at most, between two checks of the bodies that are arriving


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How fast a body has to arrive.

    The whole body within `seconds`, and at least `min_bytes_per_second` on average in every `grace_seconds`.
    """

    seconds: float
    min_bytes_per_second: int = 0
    grace_seconds: float = 10.0


@dataclass(slots=True, eq=False)
class _Arriving:
    """A body that is arriving: the times are the loop's, and `window` is where the current `grace_seconds` began."""

    task: asyncio.Task[Any]
    began: float
    window: float
    size: int = 0
    size_at_window: int = 0
    late: str = ""


class BodyReader:
    """Reads the bodies of one event loop. One timer checks all bodies that are arriving, and runs only while there are any."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._every = min(CHECK_SECONDS, limits.seconds / 4, limits.grace_seconds / 4)
        self._arriving: set[_Arriving] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(
        self,
        headers: Mapping[str, str],
        receive: Receive,
        *,
        max_bytes: int,
        reserve: Callable[[int], None] | None = None,
    ) -> bytes:
        """The whole body of a request.

        `headers` has names in lower case. `reserve` is called with the size of each chunk before the chunk is kept, and may
        raise an error of its own.

        Raises RequestError with status 413 as soon as the body is known to have more than `max_bytes`, and with 408 when it
        arrives more slowly than its limits allow; ClientDisconnect when the client closes the connection before the end of the
        body.
        """
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > max_bytes:
            raise _too_large(max_bytes, CLOSE)
        loop = asyncio.get_running_loop()
        now = loop.time()
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # a request is answered in one
        cancelling = task.cancelling()
        arriving = _Arriving(task, now, now)
        self._arriving.add(arriving)
        if self._timer is None:
            self._timer = loop.call_later(self._every, self._check, loop)
        try:
            return await _read(arriving, receive, max_bytes, reserve)
        except asyncio.CancelledError:
            if arriving.late and task.uncancel() <= cancelling:  # as asyncio.timeout does it, at three times the cost
                raise problems.RequestError(408, arriving.late, dict(CLOSE)) from None
            raise
        finally:
            self._arriving.remove(arriving)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for arriving in self._arriving:
            if not arriving.late and (late := self._late(arriving, now)):
                arriving.late = late
                arriving.task.cancel()
        self._timer = loop.call_later(self._every, self._check, loop) if self._arriving else None

    def _late(self, arriving: _Arriving, now: float) -> str:
        """Why a body is too slow; empty if it is not."""
        limits = self._limits
        if now - arriving.began >= limits.seconds:
            return f"The body did not arrive within {limits.seconds:g} s. Send it faster."
        if now - arriving.window >= limits.grace_seconds:
            if arriving.size - arriving.size_at_window < limits.min_bytes_per_second * limits.grace_seconds:
                return (
                    f"The body arrived with less than {limits.min_bytes_per_second} bytes per second for "
                    f"{limits.grace_seconds:g} s. Send it faster."
                )
            arriving.window, arriving.size_at_window = now, arriving.size
        return ""


async def _read(arriving: _Arriving, receive: Receive, max_bytes: int, reserve: Callable[[int], None] | None) -> bytes:
    body = bytearray()  # not a list: a client may send chunks of one byte
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        arriving.size += len(chunk)
        if arriving.size > max_bytes:
            raise _too_large(max_bytes, CLOSE if more else {})
        if reserve is not None:
            reserve(len(chunk))
        if not more and not body:
            return chunk
        body += chunk
        if not more:
            return bytes(body)


def _too_large(max_bytes: int, headers: Mapping[str, str]) -> problems.RequestError:
    return problems.RequestError(413, f"The body has more than {_readable(max_bytes)}. Send a smaller body.", dict(headers))


def _readable(size: int) -> str:
    for unit, factor in (("MB", 2**20), ("KB", 2**10)):
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"
