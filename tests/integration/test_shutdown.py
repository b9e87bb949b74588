"""SIGTERM under load: every request whose connection was accepted is answered."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pytest

from bunriwiki.testing.calls import mixed_calls
from bunriwiki.testing.load import run_load
from bunriwiki.testing.server import Server
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import FULL

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # of an HTTP/2 connection
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame
GOAWAY = 7


@pytest.mark.anyio
@pytest.mark.parametrize("attempt", range(5 if FULL else 1))
async def test_every_accepted_request_is_answered(start: Callable[..., Server], attempt: int) -> None:
    """Half of the clients keep their connections open, the others open one for each request."""
    server = await asyncio.to_thread(start)
    over = False
    loads = [
        run_load(server.url, mixed_calls(), clients=16, seconds=120, keep_alive=keep_alive, until=lambda: over)
        for keep_alive in (True, False)
    ]
    load = asyncio.gather(*loads)
    await asyncio.sleep(3 + attempt / 7)
    server.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(wait_until, lambda: not server.is_ready())
    assert server.process.poll() is None  # it is unready before it ends
    code = await asyncio.to_thread(server.process.wait, 60)
    over = True
    outcomes = await load
    print([outcome.summary() for outcome in outcomes])
    assert code == 0, server.log()[-3000:]
    assert [set(outcome.counts) for outcome in outcomes] == [{"200", "refused"}] * 2
    log = server.log()
    assert log.index("stopping the gateway") < log.index("stopping the runners")
    assert "Traceback" not in log


def test_grpc_connections_end_with_goaway(start: Callable[..., Server]) -> None:
    """A client learns that a connection ends, and which calls were not begun (RFC 9113, section 6.8)."""
    server = start(grpc=True)
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=30) as connection:
        connection.sendall(PREFACE + SETTINGS)
        stream = connection.makefile("rb")
        server.process.send_signal(signal.SIGTERM)
        assert GOAWAY in frame_types(stream)
    assert server.process.wait(60) == 0


def frame_types(stream: BinaryIO) -> Iterator[int]:
    """The types of the frames of HTTP/2 that arrive until the connection is closed."""
    while len(header := stream.read(9)) == 9:
        stream.read(int.from_bytes(header[:3]))
        yield header[3]
