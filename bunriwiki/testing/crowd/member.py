"""A member of a crowd: one connection at a time, from a certain address."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from bunriwiki.testing.crowd.http2 import GrpcConnection

EVERY_SECONDS = 40.0  # between two requests of a member
ANSWER_SECONDS = 60.0  # in which an answer has to come
PIECE = 2**16  # bytes that are sent at a time

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Member:
    """Where it connects to on 127.0.0.1, and the address it connects from. `counts` is by what came of what it did.

    `due` is the time of the loop at which it sends its next request, and `turns` is how many were due before.
    """

    rest_port: int
    grpc_port: int
    source: str
    counts: Counter[str] = field(default_factory=Counter)
    due: float = 0.0
    turns: int = 0

    def begin(self) -> None:
        """Draw the time of the first request."""
        self.due = asyncio.get_running_loop().time() + random.random() * EVERY_SECONDS  # noqa: S311 (no secret)
        self.turns = random.randrange(1000)  # noqa: S311 - they do not begin with the same request

    async def turn(self) -> None:
        """Wait until the next request is due."""
        await asyncio.sleep(self.due - asyncio.get_running_loop().time())
        self.due += EVERY_SECONDS
        self.turns += 1

    @contextlib.asynccontextmanager
    async def rest(self) -> AsyncIterator[Streams]:
        """A connection to the REST server. Raises OSError."""
        async with self._connection(self.rest_port) as streams:
            yield streams

    @contextlib.asynccontextmanager
    async def grpc(self) -> AsyncIterator[GrpcConnection]:
        """A connection to the gRPC server. Raises OSError."""
        async with self._connection(self.grpc_port) as streams:
            connection = GrpcConnection(*streams)
            reading = asyncio.create_task(connection.read())
            try:
                yield connection
            finally:
                reading.cancel()

    @contextlib.asynccontextmanager
    async def _connection(self, port: int) -> AsyncIterator[Streams]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(self.source, 0))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


Kind = Callable[[Member], Awaitable[str]]  # what a member does with a connection; returns in a word what came of it


def post(path: str, body: bytes, media_type: str = "application/json", length: int | None = None, more: str = "") -> bytes:
    """A POST request whose body has `length` bytes, of which `body` are the first; `more` are further header lines."""
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\nContent-Length: {size}\r\n{more}\r\n"
    return head.encode() + body


async def send(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Send as fast as the server takes it; whether it took everything: it may answer and close the connection before."""
    with contextlib.suppress(ConnectionError):
        for at in range(0, len(data), PIECE):
            if writer.is_closing():
                return False
            writer.write(data[at : at + PIECE])
            await writer.drain()
        return True
    return False


async def read_answer(reader: asyncio.StreamReader) -> str:
    """The status of an answer that is read to its end; `closed` if the connection ended before it. Raises TimeoutError."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.partition(b":")[2]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return "closed"
    return head[9:12].decode()
