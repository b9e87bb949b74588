"""uvicorn's HTTP protocol, within limits: uvicorn itself limits neither the size nor the time of a head, nor connections.

Time is measured by the pool's sweep, and a head's size once per piece that arrives: what that costs is in
docs/adr/0016-limits-for-connections.md.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bunriwiki.web import problems
from bunriwiki.web.clients import UNKNOWN, group_of
from bunriwiki.web.connections import ConnectionLimits, ConnectionPool
from bunriwiki.web.whole_response import EXTENSIONS, take_whole_responses

MAX_PIPELINED = 16  # requests that wait on a connection for the response to another
MAX_CHUNK_OVERHEAD = 8  # bytes around each byte of a body: a chunk of one byte has 5
QUIET = logging.getLogger("uvicorn.error.http")  # without warnings about requests, which anybody can send
QUIET.setLevel(logging.ERROR)
LINGER_SECONDS = 2.0  # for the client to read the answer to a head that was rejected


def bounded_http(limits: ConnectionLimits) -> type[BoundedHttp]:
    """The protocol of a server with `limits`, for `uvicorn.Config(http=...)`. Each server needs its own."""
    take_whole_responses()

    class Bounded(BoundedHttp):
        pool = ConnectionPool(limits)
        max_head_bytes = limits.head_bytes
        max_headers = limits.headers

    return Bounded


class BoundedHttp(HttpToolsProtocol):
    """One connection in a `pool`.

    Three methods add to the cost of each request: `data_received`, `on_headers_complete` and `on_body`. They name uvicorn's
    class, as `super()` would create an object.
    """

    pool: ClassVar[ConnectionPool]
    max_head_bytes: ClassVar[int]
    max_headers: ClassVar[int]

    group = UNKNOWN
    _outside = 0  # bytes that arrived since the last head or body: of a head, of chunks' frames, of trailers
    _has_head = False
    _rejected = False  # what else arrives is discarded
    _too_long = False  # the head that the parser has just rejected
    _since = 0.0
    _mark: tuple[Any, ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.logger = QUIET
        self.ws_protocol_class = None  # nothing here upgrades a connection
        if isinstance(self.app, ProxyHeadersMiddleware):
            # By default uvicorn believes what anyone on this machine says about its address. clients.py decides that.
            self.app = self.app.app
        self.group = group_of(self.client[0] if self.client else UNKNOWN)
        self._since = self.loop.time()
        self._mark = ("head", None)
        if not self.pool.enter(self, self.loop):
            self._reject(problems.unavailable("There are too many connections. Try again in a moment."))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        outside = self._outside + len(data)
        if outside > self.max_head_bytes or self._rejected:
            self._receive_in_parts(data)
            return
        self._outside = outside
        HttpToolsProtocol.data_received(self, data)
        if self._outside and self.headers and len(self.headers) > self.max_headers:
            self._reject_head()

    def _receive_in_parts(self, data: bytes) -> None:
        """Parse no more than what a head may still have, before it is known whether the rest is a body."""
        rest = memoryview(data)
        while rest and not self._rejected and not self.transport.is_closing():
            room = self.max_head_bytes - self._outside
            if room <= 0:
                self._reject_head()
                return
            part, rest = rest[:room], rest[room:]
            self._outside += len(part)
            super().data_received(part)  # type: ignore[arg-type]  # the parser takes any buffer

    def on_headers_complete(self) -> None:
        self._outside = 0
        if not self._has_head:
            self._has_head = True
            self.pool.has_head(self)
        if len(self.headers) > self.max_headers or len(self.pipeline) >= MAX_PIPELINED:
            self._too_long = True
            raise ValueError("rejected")  # ends the parsing: uvicorn calls send_400_response
        self.scope["extensions"] = EXTENSIONS
        HttpToolsProtocol.on_headers_complete(self)

    def on_body(self, body: bytes) -> None:
        if self._outside:
            self._outside = max(0, self._outside - MAX_CHUNK_OVERHEAD * len(body))
        HttpToolsProtocol.on_body(self, body)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's text)
        if self._too_long:
            self._reject_head()
        else:
            self._reject(problems.broken("This is no valid HTTP/1.1 request."))

    # What the pool needs.

    @property
    def arriving_bytes(self) -> int:
        return self._outside if self._owes_head() else 0

    def check(self, now: float) -> bool:
        limits = self.pool.limits
        mark, seconds = self._debt()
        if mark != self._mark:
            self._mark, self._since = mark, now
        if mark and now - self._since >= seconds:
            if mark[0] != "head":
                self.cut()
            elif self._outside:
                detail = f"The head of the request did not arrive within {limits.head_seconds:g} s. Send it faster."
                self._reject(problems.RequestError(408, detail))
            else:
                self.transport.close()
            return False
        return bool(mark)

    def still_owes(self) -> bool:
        return bool(self._mark) and self._debt()[0] == self._mark

    def cut(self) -> None:
        self.transport.abort()

    def _debt(self) -> tuple[tuple[Any, ...], float]:
        """What the client owes, () if nothing, and for how many seconds it may. It changes when the client makes progress."""
        limits = self.pool.limits
        if self._rejected or self.transport.is_closing():
            seconds = LINGER_SECONDS if self._rejected else limits.stalled_seconds
            return ("end", self.transport.get_write_buffer_size()), seconds
        if self._owes_head():
            return ("head", self.cycle), limits.head_seconds
        if self.flow.write_paused:
            return ("reading", self.cycle, self.transport.get_write_buffer_size()), limits.stalled_seconds
        if self.cycle.more_body:
            return ("body", self.cycle), float("inf")  # whoever reads the body has a time limit
        return (), 0

    def _owes_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _reject_head(self) -> None:
        limits = self.pool.limits
        detail = f"The head of the request has more than {limits.head_bytes // 2**10} KB or {limits.headers} headers."
        self._reject(problems.RequestError(431, f"{detail} Send a smaller one."))

    def _reject(self, error: problems.RequestError) -> None:
        """Answer with an error, unless another response is on its way, and close the connection.

        It is closed for writing first: closed at once, with data still arriving, the client would not see the answer.
        """
        if self._rejected or self.transport.is_closing():
            return
        self._rejected = True
        self._unset_keepalive_if_required()
        if not self._owes_head():
            self.transport.close()
            return
        body = problems.Problem.of(error, "").model_dump_json().encode()
        fields = {"content-type": problems.MEDIA_TYPE, "content-length": str(len(body)), "connection": "close", **error.headers}
        head = b"".join(f"{name.lower()}: {value}\r\n".encode() for name, value in fields.items())
        self.transport.write(STATUS_LINE[error.status] + head + b"\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS
            self.transport.close()
