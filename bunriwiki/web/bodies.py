"""Reading the body of a request, bounded in size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from bunriwiki.web import problems

CLOSE = {"Connection": "close"}  # the rest of a rejected body is still on its way


async def read_body(
    headers: Mapping[str, str],
    receive: Receive,
    *,
    max_bytes: int,
    seconds: float,
    reserve: Callable[[int], None] | None = None,
) -> bytes:
    """The whole body of a request.

    `headers` has names in lower case. `reserve` is called with the size of each chunk before the chunk is kept, and may raise
    an error of its own.

    Raises RequestError with status 413 as soon as the body is known to have more than `max_bytes`, and with 408 when it has
    not arrived within `seconds`; ClientDisconnect when the client closes the connection before the end of the body.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                if reserve is not None:
                    reserve(len(chunk))
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        detail = f"The body did not arrive within {seconds:g} s. Send it faster."
        raise problems.RequestError(408, detail, dict(CLOSE)) from None


def _too_large(max_bytes: int) -> problems.RequestError:
    return problems.RequestError(413, f"The body has more than {_readable(max_bytes)}. Send a smaller body.", dict(CLOSE))


def _readable(size: int) -> str:
    for unit, factor in (("MB", 2**20), ("KB", 2**10)):
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"
