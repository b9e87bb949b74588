"""The memory for the bodies of the requests of all protocols together, shared fairly.

Small and large bodies have a part each, so that large ones that wait never keep a small one out. In both parts a client may
hold as much as is free: half if it is alone, a third beside another such client. So something is always left for one more
client, and no client is bound to a fixed quota, which would be too small for many users behind one address.

A quarter is never given to anybody: what arrives of gRPC messages is counted only once it is there
(`bunriwiki.protocols.grpc.arrivals`), and an allocator takes more than it gives.
"""

from __future__ import annotations

from math import ceil
from types import TracebackType
from typing import Self

from bunriwiki.telemetry.metrics.predictions import shed_for_memory
from bunriwiki.web import problems

SMALL_BYTES = 64 * 2**10  # a body that has more is large
MB = 2**20
SPARE_SHARE = 0.25


class _Part:
    """A part of the memory, of `capacity` bytes. It remembers only the clients that hold some of it."""

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        self._held: dict[str, int] = {}

    def take(self, client: str, size: int) -> bool:
        """Take bytes for a client, unless it would then hold more than is free."""
        held = self._held.get(client, 0) + size
        free = self._free - size
        if held > free:
            return False
        self._held[client] = held
        self._free = free
        return True

    def give_back(self, client: str, size: int) -> None:
        self._free += size
        held = self._held[client] - size
        if held:
            self._held[client] = held
        else:
            del self._held[client]


class Memory:
    """Counts the bytes of the bodies that one process holds, from their reading until their requests are answered.

    They have at most three quarters of `max_mb`, of which `small_mb` are for bodies of at most `SMALL_BYTES`.
    """

    def __init__(self, max_mb: int = 512, small_mb: int = 64) -> None:
        self.small = _Part(small_mb * MB)
        self.large = _Part((max_mb - ceil(SPARE_SHARE * max_mb) - small_mb) * MB)

    def holding(self, model: str, client: str) -> Holding:
        """What a request of `client` holds. `model` is the one that the request names, for the metrics."""
        return Holding(self, model, client)


class Holding:
    """What one request holds, until the end of its `with`."""

    __slots__ = ("_client", "_memory", "_model", "_part", "_size")

    def __init__(self, memory: Memory, model: str, client: str) -> None:
        self._memory = memory
        self._model = model
        self._client = client
        self._part = memory.small
        self._size = 0

    def reserve(self, size: int) -> None:
        """Reserve further bytes. Raises RequestError if the client may not hold so many."""
        whole = self._size + size
        if whole <= SMALL_BYTES or self._part is self._memory.large:
            taken = size == 0 or self._part.take(self._client, size)
        elif taken := self._memory.large.take(self._client, whole):
            self._give_back()
            self._part = self._memory.large
        if not taken:
            shed_for_memory(self._model)
            raise problems.unavailable(
                "The requests that are waiting take all memory for bodies, or this client's share of it. Try again later.", 5
            )
        self._size = whole

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._give_back()

    def _give_back(self) -> None:
        if self._size:
            self._part.give_back(self._client, self._size)
            self._size = 0
