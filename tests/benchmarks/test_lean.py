from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from benchmarks.canned import Canned
from benchmarks.lean import BadResponseError, Load, parse, run

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def test_a_response_is_whole_when_its_body_is() -> None:
    for end in range(len(RESPONSE)):
        assert parse(RESPONSE[:end]) is None
    assert parse(RESPONSE) == (200, b"{}")
    assert parse(RESPONSE.replace(b"200", b"503")) == (503, b"{}")


@pytest.mark.parametrize(
    "received",
    [
        RESPONSE + b"x",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_unreadable_response_is_rejected(received: bytes) -> None:
    with pytest.raises(BadResponseError):
        parse(received)


def load_against(factory: Callable[[], asyncio.Protocol], **options: int) -> Load:
    async def both() -> Load:
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        async with server:
            return await run(server.sockets[0].getsockname()[1], clients=4, seconds=0.1, **options)

    return asyncio.run(both())


def test_every_answer_counts() -> None:
    load = load_against(Canned, requests=500)
    assert load.requests >= 500
    assert load.failures == {}
    assert 0 < load.p50 <= load.p99 <= load.p999 <= load.slowest


class Scripted(Canned):
    """Gives its answers one after the other, over all connections."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)

    def data_received(self, data: bytes) -> None:
        if self._answers:
            self._transport.write(self._answers.pop(0))
        else:
            self._transport.close()


def test_failures_are_counted_by_kind() -> None:
    other, rejected = RESPONSE.replace(b"{}", b"[]"), RESPONSE.replace(b"200", b"503")
    load = load_against(lambda: Scripted(RESPONSE, rejected))
    assert load.failures == {"503": 4, "closed": 4}
    load = load_against(lambda: Scripted(RESPONSE, RESPONSE, other))
    assert load.failures == {"body": 4, "closed": 4}
    assert load_against(lambda: Scripted(b"no HTTP\r\n\r\n")).failures == {"unreadable": 4}
