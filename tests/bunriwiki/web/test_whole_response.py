from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from bunriwiki.web.bounded_http import BoundedHttp
from bunriwiki.web.whole_response import WHOLE_RESPONSE
from tests.bunriwiki.web.test_bounded_http import GET, Bench, FakeTransport, settle

pytestmark = pytest.mark.anyio


def responding(headers: dict[str, str] | None = None, *, close: bool = False, times: int = 1) -> ASGIApp:
    """An application that answers with the path, as one message, so many `times`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert WHOLE_RESPONSE in scope["extensions"]
        message = {"status": 200, "headers": headers or {"X-A": "b"}, "body": scope["path"].encode(), "close": close}
        for _ in range(times):
            await send({"type": WHOLE_RESPONSE, **message})

    return app


class Writes(FakeTransport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        super().write(data)
        self.writes.append(bytes(data))


def connect(bench: Bench) -> tuple[BoundedHttp, Writes]:
    connection, transport = bench.connect()[0], Writes()
    connection.connection_made(transport)
    return connection, transport


async def sent(app: ASGIApp, data: bytes = GET) -> FakeTransport:
    connection, transport = Bench(app=app).connect()
    connection.data_received(data)
    await settle()
    return transport


async def test_it_is_written_as_one_piece() -> None:
    connection, transport = connect(Bench(app=responding()))
    connection.data_received(GET)
    await settle()
    assert transport.writes == [b"HTTP/1.1 200 OK\r\nX-A: b\r\ncontent-length: 2\r\n\r\n/x"]
    assert not transport.closed


async def test_the_server_s_own_headers_are_the_latest() -> None:
    bench = Bench(app=responding({}))
    connection, transport = connect(bench)
    for second in (b"1", b"2", b"2"):
        if bench._state.default_headers != [(b"date", second)]:
            bench._state.default_headers = [(b"date", second)]
        connection.data_received(GET)
        await settle()
    assert [write.split(b"\r\n")[1] for write in transport.writes] == [b"date: 1", b"date: 2", b"date: 2"]


async def test_a_head_request_gets_no_body() -> None:
    transport = await sent(responding(), GET.replace(b"GET", b"HEAD"))
    assert transport.sent.endswith(b"content-length: 2\r\n\r\n")


@pytest.mark.parametrize(("data", "close"), [(GET, True), (GET.replace(b"1.1", b"1.0"), False)])
async def test_the_connection_is_closed_where_it_has_to_be(data: bytes, close: bool) -> None:
    transport = await sent(responding(close=close), data)
    assert transport.sent.count(b"connection: close") == 1
    assert transport.closed


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    transport = await sent(responding(), GET + GET.replace(b"/x", b"/y"))
    assert [part[-2:] for part in transport.sent.split(b"HTTP/1.1 ")[1:]] == [b"/x", b"/y"]


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b"])
async def test_no_header_can_end_the_head_or_begin_another(text: str) -> None:
    for headers in ({"X-A": text}, {text: "a"}):
        transport = await sent(responding(headers))
        assert transport.sent.startswith(b"HTTP/1.1 500 ")
        assert text.encode() not in transport.sent
        assert transport.closed


async def test_there_is_one_response_to_a_request() -> None:
    transport = await sent(responding(times=2))
    assert transport.sent.count(b"HTTP/1.1") == 1
    assert transport.closed


async def test_nothing_is_written_to_a_client_that_has_gone() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await responding()(scope, receive, send)

    connection, transport = Bench(app=app).connect()
    connection.data_received(GET)
    await settle()
    connection.connection_lost(None)
    gate.set()
    await settle()
    assert transport.sent == b""


async def test_a_client_that_does_not_read_is_waited_for() -> None:
    connection, transport = Bench(app=responding()).connect()
    connection.pause_writing()
    connection.data_received(GET)
    await settle()
    assert transport.sent == b""
    connection.resume_writing()
    await settle()
    assert transport.sent.endswith(b"/x")
