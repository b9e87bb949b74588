"""Calls that wait for messages, and their connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from bunriwiki.protocols.grpc.received import Peer

# Why a message is not waited for any longer: it took too long, its client has no memory left, or there are too many calls.
Reason: TypeAlias = Literal["time", "memory", "calls"]


class ArrivalError(Exception):
    """The message is not waited for any longer."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(eq=False, slots=True)
class Wait:
    """A call that waits for a message until `until`, in monotonic time. If it has `unread`, it reads once that is done."""

    until: float
    task: asyncio.Task[Any]
    unread: asyncio.Future[None] | None = None
    ended: Reason | None = None

    @property
    def reads(self) -> bool:
        """Whether all of its message may arrive. Of one that is not read, only what the core reads ahead does."""
        return self.unread is None or self.unread.done()

    def read(self) -> None:
        if self.unread:
            settle(self.unread)

    def end(self, reason: Reason) -> None:
        if self.ended is None:
            self.ended = reason
            self.task.cancel()


@dataclass(eq=False, slots=True)
class Connection:
    """A connection of `client`: the bytes of its messages that were delivered, and what is held for the others.

    `counted` are the bytes that had arrived at the last count.
    `waits` are its calls that wait for a message, and `lingering` those that will be answered at the latest when one arrives.
    """

    client: str
    peer: Peer
    delivered: int = 0
    counted: int = 0
    held: int = 0
    waits: dict[Wait, None] = field(default_factory=dict)
    lingering: dict[asyncio.Future[None], None] = field(default_factory=dict)

    def read(self) -> None:
        """Have all calls read that wait."""
        for wait in self.waits:
            wait.read()

    def end(self, reason: Reason) -> None:
        """End all calls that wait."""
        for wait in self.waits:
            wait.end(reason)


def settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
