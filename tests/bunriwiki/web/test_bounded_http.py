from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.server import ServerState

from bunriwiki.web.bounded_http import LINGER_SECONDS, MAX_PIPELINED, BoundedHttp, bounded_http
from bunriwiki.web.connections import ConnectionLimits

pytestmark = pytest.mark.anyio

HEAD_BYTES = 1000
LIMITS = ConnectionLimits(2, head_bytes=HEAD_BYTES, headers=10, head_seconds=10, stalled_seconds=30)
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


class FakeTransport(asyncio.Transport):
    def __init__(self, peer: str = "192.0.2.7") -> None:
        super().__init__({"peername": (peer, 5000), "sockname": ("127.0.0.1", 80)})
        self.sent = b""
        self.ended = self.closed = self.aborted = False
        self.buffered = 0

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The size of the body; a request for /slow waits for the end of its body forever."""
    size = 0
    while scope["method"] == "POST":
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


class Bench:
    """Connections to one server, whose clock the test moves."""

    def __init__(self, limits: ConnectionLimits = LIMITS, app: ASGIApp = echo) -> None:
        self.protocol = bounded_http(limits)
        self.pool = self.protocol.pool
        self._config = uvicorn.Config(app, http=self.protocol, lifespan="off", log_config=None, access_log=False)
        self._config.load()
        self._state = ServerState()
        self.now = asyncio.get_running_loop().time()

    def connect(self, peer: str = "192.0.2.7") -> tuple[BoundedHttp, FakeTransport]:
        connection = self.protocol(config=self._config, server_state=self._state, app_state={})
        transport = FakeTransport(peer)
        connection.connection_made(transport)
        return connection, transport

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.pool.sweep(self.now)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def status(transport: FakeTransport) -> int:
    return int(transport.sent.split()[1]) if transport.sent else 0


async def test_requests_are_answered() -> None:
    bench = Bench()
    connection, transport = bench.connect()
    for piece in (GET[:5], GET[5:], b"POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n", b"a" * 4000, b"a" * 1000):
        connection.data_received(piece)
        await settle()
    assert transport.sent.count(b"200 OK") == 2
    assert transport.sent.endswith(b"5000")
    assert not transport.closed


async def test_a_head_that_is_too_large_is_rejected_and_the_rest_of_it_discarded() -> None:
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(100):
        connection.data_received(b"a" * 100)
    assert status(transport) == 431
    assert b"application/problem+json" in transport.sent
    assert b"or 10 headers. Send a smaller one." in transport.sent
    assert transport.ended
    assert transport.sent.count(b"HTTP/1.1") == 1
    bench.wait(1 + int(LINGER_SECONDS))
    assert transport.aborted


@pytest.mark.parametrize("size", [HEAD_BYTES, HEAD_BYTES + 1])
async def test_the_limit_is_exact_however_the_head_arrives(size: int) -> None:
    head = b"GET / HTTP/1.1\r\nX: \r\n\r\n"
    head = head.replace(b"X: ", b"X: " + b"a" * (size - len(head)))
    body = b"b" * 5000
    for piece in (1, 7, 1000, 10_000):
        connection, transport = Bench().connect()
        data = head + body
        for start in range(0, len(data), piece):
            connection.data_received(data[start : start + piece])
        await settle()
        assert status(transport) == (200 if size == HEAD_BYTES else 431), piece


async def test_a_head_with_too_many_headers_is_rejected_complete_or_not() -> None:
    for end in (b"", b"\r\n"):
        connection, transport = Bench().connect()
        connection.data_received(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 12 + end)
        await settle()
        assert status(transport) == 431, end


async def test_trailers_have_the_limit_of_a_head() -> None:
    connection, transport = Bench().connect()
    connection.data_received(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
    await settle()
    for _ in range(20):
        connection.data_received(b"X: " + b"a" * 100)
    assert transport.closed


async def test_a_body_in_small_chunks_is_no_head() -> None:
    connection, transport = Bench().connect()
    connection.data_received(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(2000):
        connection.data_received(b"1\r\na\r\n")
    connection.data_received(b"0\r\n\r\n")
    await settle()
    assert transport.sent.endswith(b"2000")


async def test_a_slow_head_is_answered_408() -> None:
    bench = Bench()
    connection, transport = bench.connect()
    for _ in range(9):
        connection.data_received(b"a" if connection._outside else b"GET /")
        bench.wait(1)
    assert not transport.sent
    bench.wait(2)
    assert status(transport) == 408
    bench.wait(1 + int(LINGER_SECONDS))
    assert transport.aborted


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    bench = Bench()
    _, transport = bench.connect()
    bench.wait(9)
    assert not transport.closed
    bench.wait(2)
    assert (transport.closed, transport.sent) == (True, b"")


async def test_a_slow_head_after_a_request_is_closed_as_well() -> None:
    bench = Bench()
    connection, transport = bench.connect()
    for _ in range(8):
        connection.data_received(GET)  # each request begins the time anew
        await settle()
        bench.wait(3)
    assert not transport.closed
    connection.data_received(GET[:5])
    bench.wait(12)
    assert transport.sent.endswith(b'"instance":""}')
    assert b"HTTP/1.1 408" in transport.sent


async def test_a_body_has_no_limit_here() -> None:
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
    await settle()
    bench.wait(100)
    assert not transport.closed
    connection.data_received(b"aaaaa")
    await settle()
    assert status(transport) == 200


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    bench = Bench()
    connection, transport = bench.connect()
    connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
    await settle()
    connection.pause_writing()
    for size in (300, 200, 100):
        transport.buffered = size
        bench.wait(25)  # it reads slowly
    assert not transport.closed
    bench.wait(32)
    assert transport.aborted
    connection.connection_lost(None)


async def test_many_requests_at_once_are_rejected() -> None:
    connection, transport = Bench(ConnectionLimits(2)).connect()
    connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n" * (MAX_PIPELINED + 10))
    await settle()
    assert transport.closed


async def test_a_connection_too_many_replaces_the_oldest_without_a_head() -> None:
    bench = Bench()
    (one, first), (_, second), (_, third) = (bench.connect() for _ in range(3))
    assert [first.aborted, second.aborted, third.aborted] == [True, False, False]
    one.connection_lost(None)
    assert len(bench.pool) == 2


async def test_a_connection_too_many_is_answered_503_if_all_are_busy() -> None:
    bench = Bench()
    for connection, _ in (bench.connect(), bench.connect()):
        connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
    await settle()
    rejected, transport = bench.connect("192.0.2.8")
    assert status(transport) == 503
    assert b"retry-after: 1" in transport.sent
    assert transport.closed
    rejected.data_received(GET)
    rejected.connection_lost(None)
    bench.pool.sweep(bench.now + 1)
    assert bench.connect("192.0.2.8")[1].sent == b""  # after a sweep, a body that has not arrived makes room


async def test_what_is_no_http_is_answered_with_a_problem() -> None:
    connection, transport = Bench().connect()
    connection.data_received(b"\x16\x03\x01 hello\r\n\r\n")
    assert status(transport) == 400
    assert b"application/problem+json" in transport.sent


async def test_no_connection_is_upgraded() -> None:
    connection, transport = Bench().connect()
    connection.data_received(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n")
    await settle()
    assert status(transport) == 200
    assert len(connection.pool) == 1


async def test_a_client_of_this_machine_does_not_say_where_it_is() -> None:
    seen = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"])
        await echo(scope, receive, send)

    connection, transport = Bench(app=note).connect("127.0.0.1")
    connection.data_received(b"GET / HTTP/1.1\r\nX-Forwarded-For: 198.51.100.66\r\n\r\n")
    await settle()
    assert status(transport) == 200
    assert seen == [("127.0.0.1", 5000)]


async def test_uvicorn_takes_the_protocol_from_where_it_is_put(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = bounded_http(LIMITS)
    monkeypatch.setitem(cast("dict[str, object]", HTTP_PROTOCOLS), "auto", protocol)
    config = uvicorn.Config(echo, log_config=None)
    config.load()
    assert config.http_protocol_class is protocol
