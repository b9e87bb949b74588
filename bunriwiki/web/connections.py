"""The connections of one HTTP server: how many there may be, and which ones make room for others.

A connection is closed only if its client owes something: a head, a body, or the reading of a response. Where there are too
many, those of the client with the most connections go first; of these, the ones that never sent a whole head, oldest first.
So a client that opens thousands of connections replaces its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

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
        self._count = 0
        self._groups: dict[str, dict[Connection, None]] = {}
        self._headless: dict[str, dict[Connection, None]] = {}  # those that never sent a whole head, oldest first
        self._owing: dict[str, deque[Connection]] = {}  # those that owed something at the last sweep
        self._sweeping = False

    def __len__(self) -> int:
        return self._count

    def enter(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Add a connection, in place of another one if there are too many; returns False if there is no room for it."""
        if self._count >= self.limits.connections and not self._make_room(connection.group):
            return False
        self._groups.setdefault(connection.group, {})[connection] = None
        self._headless.setdefault(connection.group, {})[connection] = None
        self._count += 1
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(SWEEP_SECONDS, self._keep_sweeping, loop)
        return True

    def leave(self, connection: Connection) -> None:
        """Remove a connection, if it is there."""
        if _remove(self._groups, connection):
            _remove(self._headless, connection)
            self._count -= 1

    def has_head(self, connection: Connection) -> None:
        """The first whole head has arrived on `connection`."""
        _remove(self._headless, connection)

    def sweep(self, now: float) -> None:
        """Close the connections whose clients have owed something for too long, and note the others that owe something."""
        owing = [connection for connection in self._all() if connection.check(now)]
        self._owing = {}
        if self._count > CROWDED * self.limits.connections:
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
        self._sweeping = self._count > 0
        if self._sweeping:
            loop.call_later(SWEEP_SECONDS, self._keep_sweeping, loop)

    def _all(self) -> Iterator[Connection]:
        for group in list(self._groups.values()):
            yield from list(group)

    def _make_room(self, newcomer: str) -> bool:
        group = self._largest(newcomer)
        for connection in self._headless.get(group, ()):
            self._cut(connection)
            return True
        owing = self._owing.get(group, deque())
        while owing:
            connection = owing.popleft()
            if connection in self._groups.get(group, ()) and connection.still_owes():
                self._cut(connection)
                return True
        return False

    def _largest(self, newcomer: str) -> str:
        """The client with the most connections; `newcomer` if it has its share, which saves the search."""
        if len(self._groups.get(newcomer, ())) * len(self._groups) >= self._count:
            return newcomer
        return max(self._groups, key=lambda group: len(self._groups[group]))

    def _cut(self, connection: Connection) -> None:
        self.leave(connection)
        connection.cut()


def _remove(groups: dict[str, dict[Connection, None]], connection: Connection) -> bool:
    group = groups.get(connection.group)
    if group is None or connection not in group:
        return False
    del group[connection]
    if not group:
        del groups[connection.group]
    return True
