"""The connections of one HTTP server: how many there may be, and which ones make room for others.

A connection is closed only if its client owes something: a head, a body, or the reading of a response. Where there are too
many, those of the client with the most connections go first; of these, the ones that never sent a whole head, oldest first.
So a client that opens thousands of connections replaces its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from bunriwiki.web.groups import Groups

SWEEP_SECONDS = 1.0  # between two checks of all connections: no connection has a timer of its own
CROWDED = 0.75  # share of the connections beyond which a sweep notes which ones could be closed


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of one HTTP server.

    `connections` may be open at a time. A head may have `head_bytes` and `headers`, and take `head_seconds`, also on a
    connection that is kept alive; heads that are still arriving have at most `arriving_bytes` together. A client that does not
    read for `stalled_seconds` is cut off.
    """

    connections: int
    head_bytes: int = 64 * 2**10
    headers: int = 100
    head_seconds: float = 10.0
    arriving_bytes: int = 16 * 2**20
    stalled_seconds: float = 30.0


class Connection(Protocol):
    """What the pool needs of a connection."""

    group: str  # its client, as limits per client count it

    @property
    def arriving_bytes(self) -> int:
        """The bytes of a head that is not complete."""

    def check(self, now: float) -> bool:
        """Close it if its client has owed something for too long; else return whether it owes anything.

        It is called at each sweep, with the loop's time.
        """

    def still_owes(self) -> bool:
        """Whether the client owes what it owed at the last sweep."""

    def cut(self) -> None:
        """Close it at once."""


class ConnectionPool:
    """The connections of one HTTP server in one event loop."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._connections: Groups[Connection] = Groups()
        self._headless: Groups[Connection] = Groups()  # those that never sent a whole head
        self._owing: dict[str, deque[Connection]] = {}  # those that owed something at the last sweep
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._connections)

    def enter(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Add a connection, in place of another one if there are too many; returns False if there is no room for it."""
        if len(self) >= self.limits.connections and not self._make_room(connection.group):
            return False
        self._connections.add(connection.group, connection)
        self._headless.add(connection.group, connection)
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(SWEEP_SECONDS, self._keep_sweeping, loop)
        return True

    def leave(self, connection: Connection) -> None:
        """Remove a connection, if it is there."""
        if self._connections.remove(connection.group, connection):
            self._headless.remove(connection.group, connection)

    def has_head(self, connection: Connection) -> None:
        """The first whole head has arrived on `connection`."""
        self._headless.remove(connection.group, connection)

    def sweep(self, now: float) -> None:
        """Close the connections whose clients have owed something for too long, and note the others that owe something."""
        owing = [connection for connection in self._connections if connection.check(now)]
        self._owing = {}
        if len(self) > CROWDED * self.limits.connections:
            for connection in owing:
                self._owing.setdefault(connection.group, deque()).append(connection)
        arriving = sum(connection.arriving_bytes for connection in owing)
        if arriving > self.limits.arriving_bytes:
            for connection in sorted(owing, key=lambda each: each.arriving_bytes, reverse=True):
                arriving -= connection.arriving_bytes
                self._cut(connection)
                if arriving <= self.limits.arriving_bytes:
                    break

    def _keep_sweeping(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sweep(loop.time())
        self._sweeping = len(self) > 0
        if self._sweeping:
            loop.call_later(SWEEP_SECONDS, self._keep_sweeping, loop)

    def _make_room(self, newcomer: str) -> bool:
        client = self._connections.largest(newcomer)
        if (headless := self._headless.oldest(client)) is not None:
            self._cut(headless)
            return True
        owing = self._owing.get(client, deque())
        while owing:
            connection = owing.popleft()
            if self._connections.has(client, connection) and connection.still_owes():
                self._cut(connection)
                return True
        return False

    def _cut(self, connection: Connection) -> None:
        self.leave(connection)
        connection.cut()
