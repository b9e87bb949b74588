"""The memory for the bodies of the requests of all protocols together, shared fairly.

Small and large bodies have a part each, so that large ones that wait never keep a small one out. In both parts a client may
hold as much as is free: half if it is alone, a third beside another such client. So something is always left for one more
client, and no client is bound to a fixed quota, which would be too small for many users behind one address.

A process needs more than this counts: what arrives of gRPC messages is counted only once it is there
(`bunriwiki.protocols.grpc.arrivals`), and an allocator takes more than it gives. So the settings keep half spare.
"""

from __future__ import annotations

from bunriwiki.telemetry.metrics.predictions import shed_for_memory
from bunriwiki.web import problems

SMALL_BYTES = 64 * 2**10  # a body that has more is large
MB = 2**20
FULL = "The requests that are waiting take all memory for bodies, or this client's share of it. Try again later."


class _Part:
    """A part of the memory, of `capacity` bytes. It remembers only the clients that hold some of it."""

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        self._held: dict[str, int] = {}

    def has_room(self, client: str, size: int) -> bool:
        """Whether a client may take so many bytes: unless it would then hold more than is free."""
        return self._held.get(client, 0) + size <= self._free - size

    def take(self, client: str, size: int) -> bool:
        """Take bytes for a client; returns False if it has no room for them."""
        if not self.has_room(client, size):
            return False
        self._held[client] = self._held.get(client, 0) + size
        self._free -= size
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

    `small_mb` are for bodies of at most `SMALL_BYTES`, and `large_mb` for others.
    """

    def __init__(self, large_mb: int = 192, small_mb: int = 64) -> None:
        self.small = _Part(small_mb * MB)
        self.large = _Part(large_mb * MB)

    def resize(self, client: str, model: str, held: int, size: int) -> None:
        """A body of `client` has `size` bytes of the memory from now on, instead of `held`: more, or 0 at its end.

        Raises RequestError if the client may not hold so many; then the body keeps what it has. `model` is the one that the
        request names, for the metrics.
        """
        before = self.small if held <= SMALL_BYTES else self.large
        if size > held:
            after = self.small if size <= SMALL_BYTES else self.large
            if not after.take(client, size - held if after is before else size):
                shed_for_memory(model)
                raise problems.unavailable(FULL, 5)
            if after is before:
                return
        if held:
            before.give_back(client, held)
