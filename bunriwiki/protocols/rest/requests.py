"""A request as the endpoints see it, and what belongs to its connection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from bunriwiki.protocols.handlers.feedback import REQUEST_ID
from bunriwiki.protocols.handlers.timing import RequestTiming

ResultT = TypeVar("ResultT")


class Request(msgspec.Struct, gc=False):
    """A request whose body was read. `path_params` are the parts of the path that the template of its route names.

    `timing` is what counts it, in a server.
    """

    headers: Headers
    body: bytes = b""
    query: bytes = b""
    path_params: Mapping[str, str] = msgspec.field(default_factory=dict)
    request_id: str = ""
    timing: RequestTiming | None = None


def request_id_of(headers: Headers) -> str:
    """The client's own id where it is harmless in a log, otherwise a new id."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else os.urandom(16).hex()


async def unless_disconnected(work: Awaitable[ResultT], receive: Receive) -> ResultT:
    """The result of `work`, which is cancelled when the client closes the connection first. The body must have been read.

    Raises ClientDisconnect if the client closed the connection.
    """
    task = asyncio.current_task()
    disconnected = False

    def cancel(_: object) -> None:
        nonlocal disconnected
        disconnected = True
        if task is not None:
            task.cancel()

    disconnect = asyncio.ensure_future(receive())  # after the body, the only message that can come is `http.disconnect`
    disconnect.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if disconnected and task is not None and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        disconnect.remove_done_callback(cancel)
        disconnect.cancel()
