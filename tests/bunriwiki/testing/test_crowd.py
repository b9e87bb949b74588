from __future__ import annotations

import asyncio

import pytest

from bunriwiki.testing.crowd import hostile
from bunriwiki.testing.crowd.http2 import frame, header_block, message
from bunriwiki.testing.crowd.member import Member

pytestmark = pytest.mark.anyio


def test_frames() -> None:
    assert frame(6, 1, 3, b"abc") == b"\x00\x00\x03\x06\x01\x00\x00\x00\x03abc"
    assert header_block({"te": "x"}) == b"\x00\x02te\x01x"
    assert message(b"ab", 5) == b"\x00\x00\x00\x00\x05ab"


async def test_a_slow_body_is_sent_until_there_is_an_answer() -> None:
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"{"))
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await hostile.slow_body(Member(port, port, "127.0.0.2")) == "408"
    assert received.startswith(b"POST /predict HTTP/1.1\r\n")
