"""Messages that are arriving: what they may take of the memory for bodies, and for how long.

gRPC's core collects a message before Python sees any of it. So what is arriving on a connection is what the kernel has received
there, less the messages that Python has. It is counted four times a second while calls wait for messages, and as soon as the
process has grown by `BURST_BYTES`. If a client has no memory left, all calls that wait for messages on the connection end.
The memory for bodies has a part that nobody gets, for what arrives uncounted (`bunriwiki.protocols.handlers.memory`).

As soon as a call reads, all of its message may arrive. So while a client has no room for a message of the largest size, its
new calls do not read before the next count, and until then at most `LOOKAHEAD_BYTES` of a message arrive. These are more than
a small message has: a call for which more than `FREE_BYTES` has arrived is ended, and the others read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, cast

import grpc

from bunriwiki.protocols.grpc.freed import FreedMemory
from bunriwiki.protocols.grpc.received import Peer, peer_of
from bunriwiki.protocols.grpc.waits import ArrivalError, Connection, Wait, settle
from bunriwiki.protocols.handlers.memory import SMALL_BYTES
from bunriwiki.telemetry.process_memory import resident_memory
from bunriwiki.web.clients import group_of
from bunriwiki.web.groups import Groups

SWEEP_SECONDS = 0.25  # between two sweeps, at most
GLANCE_SECONDS = 0.02  # between two looks at the memory of the process
BURST_BYTES = 8 * 2**20  # by which it may grow before the next sweep
CLEAN_SECONDS = 10.0  # after which connections that are gone are forgotten, at the latest
FREE_BYTES = SMALL_BYTES + 16 * 2**10  # of a connection: a small message, handshakes, and what the core has read ahead
LOOKAHEAD_BYTES = 128 * 2**10  # of a message that no call reads
OVERHEAD_BYTES = 256  # of a message: its headers; the more, the more of others an attacker could hide by many calls
OVERHEAD_SHARE = 512  # of its bytes, one of so many is for the frames of HTTP/2 and TLS, which have 16 KB each

# Reads a message that was decoded by `messages_of`: `grpc.aio.ServicerContext.read`.
Read: TypeAlias = Callable[[], Awaitable[Any]]


class Budget(Protocol):
    """Memory that clients share (`bunriwiki.protocols.handlers.memory`)."""

    def take(self, client: str, size: int) -> bool:
        """Take bytes for a client; returns False if it may not have so many."""

    def has_room(self, client: str, size: int) -> bool:
        """Whether a client could take so many bytes."""

    def give_back(self, client: str, size: int) -> None:
        """Give bytes back."""


class Arrivals:
    """The messages that calls of one server wait for.

    `largest` are the bytes of the largest message, `received` returns the bytes that each connection has received, and
    `resident` the memory of the process.
    """

    def __init__(
        self,
        budget: Budget,
        largest: int,
        received: Callable[[], Mapping[Peer, int]],
        resident: Callable[[], int] = resident_memory,
    ) -> None:
        self._budget = budget
        self._largest = largest
        self._received = received
        self._resident = resident
        self._connections: dict[str, Connection] = {}  # by the name of the peer
        self._waiting = 0  # calls
        self._glancing = False
        self._swept = 0.0
        self._least_resident = 0  # since the last sweep
        self._freed = FreedMemory(resident)

    def connection(self, peer: str) -> Connection:
        """The connection of a call, whose peer gRPC's core calls `peer`."""
        connection = self._connections.get(peer)
        if connection is None:
            name = peer_of(peer)
            connection = self._connections[peer] = Connection(group_of(name.host), name)
            if not self._glancing:
                self._glancing = True
                self._least_resident = self._resident()
                loop = asyncio.get_running_loop()
                loop.call_later(GLANCE_SECONDS, self._keep_glancing, loop)
        return connection

    async def receive(self, connection: Connection, waits: Groups[Wait], seconds: float, read: Read) -> Any:
        """The message that `read` returns with its size, or EOF.

        While it waits, it is among `waits`, under its client. Raises ArrivalError.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # a handler runs in one
        cancelling = task.cancelling()
        wait = Wait(time.monotonic() + seconds, task)
        connection.waits[wait] = None
        waits.add(connection.client, wait)
        self._waiting += 1
        try:
            if not self._budget.has_room(connection.client, self._largest):
                wait.unread = asyncio.get_running_loop().create_future()
                await wait.unread
            received = await read()
        except asyncio.CancelledError:
            if wait.ended and task.uncancel() <= cancelling:  # as asyncio.timeout does it, at three times the cost
                raise ArrivalError(wait.ended) from None
            raise
        finally:
            self._waiting -= 1
            del connection.waits[wait]
            waits.remove(connection.client, wait)
        if received is grpc.aio.EOF:
            return received
        size, message = received
        whole = size + OVERHEAD_BYTES + size // OVERHEAD_SHARE
        connection.delivered += whole
        if connection.held:  # the request holds the message from now on
            self._hold(connection, max(0, connection.held - whole))
        return message

    async def linger(self, connection: Connection, seconds: float) -> None:
        """Wait before a call is rejected, unless a message is arriving: the core keeps it until the answer."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        timer = loop.call_later(seconds, settle, over)
        connection.lingering[over] = None
        self._waiting += 1
        try:
            await over
        finally:
            self._waiting -= 1
            del connection.lingering[over]
            timer.cancel()

    def glance(self, now: float) -> None:
        """Sweep if it is time to, or if the process has grown."""
        self._freed.glance(now)
        if self._waiting:
            resident = self._resident()
            self._least_resident = min(self._least_resident, resident)
            if now >= self._swept + SWEEP_SECONDS or resident >= self._least_resident + BURST_BYTES:
                self.sweep(now)
        elif now >= self._swept + CLEAN_SECONDS or (now >= self._swept + SWEEP_SECONDS and self._holds()):
            self.sweep(now)

    def sweep(self, now: float) -> None:
        """Count what is arriving, and end the waits that take too long or too much."""
        self._swept = now
        for connection in self._connections.values():
            for wait in connection.waits:
                if now >= wait.until:
                    wait.end("time" if wait.reads else "memory")
        received = self._received()
        for name, connection in list(self._connections.items()):
            total = received.get(connection.peer)
            if total is not None:
                self._count(connection, total, now)
            elif connection.waits or connection.lingering:
                connection.read()  # there is nothing to judge by
            else:
                self._hold(connection, 0)
                del self._connections[name]
        self._least_resident = self._resident()

    def _holds(self) -> bool:
        return any(connection.held for connection in self._connections.values())

    def _count(self, connection: Connection, total: int, now: float) -> None:
        # What was not counted exactly is corrected. If no call waits, what had arrived by the last count was delivered. What
        # arrived since then may be of a message whose call has not begun here yet.
        if not (connection.waits or connection.lingering):
            connection.delivered = max(connection.delivered, connection.counted)
        connection.delivered = min(connection.delivered, total)
        connection.counted = total
        arriving = max(0, total - connection.delivered - FREE_BYTES)
        if arriving:
            for over in connection.lingering:
                settle(over)
        if not self._hold(connection, arriving):
            connection.end("memory")
            self._freed.ended(now)
        elif not arriving or self._budget.has_room(connection.client, self._largest):
            connection.read()
        elif not any(wait.reads for wait in connection.waits):  # so a message is arriving that should not be read
            connection.end("memory")

    def _hold(self, connection: Connection, size: int) -> bool:
        more = size - connection.held
        if more > 0 and not self._budget.take(connection.client, more):
            return False
        if more < 0:
            self._budget.give_back(connection.client, -more)
        connection.held = size
        return True

    def _keep_glancing(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.glance(time.monotonic())
        finally:  # a glance that fails, without a free file for example, does not end the others
            self._glancing = bool(self._connections)
            if self._glancing:
                loop.call_later(GLANCE_SECONDS, self._keep_glancing, loop)


def messages_of(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], tuple[int, Any]]:
    """A deserializer whose messages are what `Arrivals.receive` reads."""

    def measured(data: bytes) -> tuple[int, Any]:
        return len(data), decode(data) if decode else data

    return measured
