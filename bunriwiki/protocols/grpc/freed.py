"""What calls had that were ended is given back to the system.

glibc keeps what gRPC's core has freed, in pieces between memory in use, and while many calls are ended the next messages do not
fit into them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from bunriwiki.telemetry.process_memory import trim

TRIM_SECONDS = 0.5  # from the end of a call until what it had is given back, at most
TRIM_BYTES = 32 * 2**20  # by which the process may grow until then


class FreedMemory:
    """Gives back what ended calls had. `resident` returns the memory of the process."""

    def __init__(self, resident: Callable[[], int]) -> None:
        self._resident = resident
        self._trim_at = inf
        self._trimming = False
        self._resident_after = 0  # the last trim

    def ended(self, now: float) -> None:
        """A call was ended whose message had arrived in part."""
        self._trim_at = min(self._trim_at, now + TRIM_SECONDS)

    def glance(self, now: float) -> None:
        """Give back what there is, if it is time to or if the process has grown. Called in an event loop."""
        if self._trim_at == inf or self._trimming:
            return
        if now >= self._trim_at or self._resident() >= self._resident_after + TRIM_BYTES:
            self._trim_at = inf
            self._trimming = True
            asyncio.get_running_loop().run_in_executor(None, trim).add_done_callback(self._trimmed)

    def _trimmed(self, _: asyncio.Future[None]) -> None:
        self._trimming = False
        self._resident_after = self._resident()
