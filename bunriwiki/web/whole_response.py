"""A response as one ASGI message, and written as one piece.

ASGI takes a response as two messages, and uvicorn checks the name and the value of each header by a regular expression, which
takes longer than all else that it does for a small response. So `EXTENSIONS` says in the scope of a request that the server
takes the whole response as one message instead (an extension, as ASGI calls it):

    {"type": WHOLE_RESPONSE, "status": 200, "headers": {"Content-Type": "text/plain"}, "body": b"...", "close": False}

Its headers have no Content-Length and no Connection: the server adds both. With `close`, it closes the connection afterwards.
The usual messages work as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict, cast

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

WHOLE_RESPONSE = "bunriwiki.whole_response"
EXTENSIONS: dict[str, dict[object, object]] = {WHOLE_RESPONSE: {}}


class WholeResponse(TypedDict):
    """The message."""

    type: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    close: bool


class Cycle(RequestResponseCycle):
    """A request and its response, which may be a whole one."""

    async def send(self, message: ASGISendEvent | WholeResponse) -> None:
        if message["type"] != WHOLE_RESPONSE:
            await RequestResponseCycle.send(self, cast("ASGISendEvent", message))
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if not self.disconnected:
            self._respond(cast("WholeResponse", message))

    def _respond(self, message: WholeResponse) -> None:
        """Write the response. Raises RuntimeError if there is one already, or if a header could be the end of the head."""
        if self.response_started:
            raise RuntimeError("There is a response already.")
        headers, body = message["headers"], message["body"]
        head = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()
        if head.count(b"\n") != len(headers) or head.count(b"\r") != len(headers) or b"\0" in head:
            raise RuntimeError("A header has a line break or a NUL.")
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        if message["close"]:
            self.keep_alive = False
        self.transport.write(
            b"%b%b%bcontent-length: %d\r\n%b\r\n%b"
            % (
                STATUS_LINE[message["status"]],
                _SERVER_HEADERS.encoded(self.default_headers),
                head,
                len(body),
                b"" if self.keep_alive else b"connection: close\r\n",
                b"" if self.scope["method"] == "HEAD" else body,
            )
        )
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def take_whole_responses() -> None:
    """Have uvicorn's servers in this process take such responses. Those that set no `EXTENSIONS` work as before."""
    # uvicorn has no setting for it. To change the class of an object instead would slow down each access to its attributes.
    httptools_impl.RequestResponseCycle = Cycle  # type: ignore[misc]


class _ServerHeaders:
    """The server's own headers, such as the date, encoded. uvicorn makes a new list of them every second."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._encoded = b""

    def encoded(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self._headers:
            self._headers, self._encoded = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._encoded


_SERVER_HEADERS = _ServerHeaders()
