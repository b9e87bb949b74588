"""The memory limit for the requests of all protocols together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from bunriwiki.telemetry.metrics.predictions import shed_for_memory
from bunriwiki.web import problems

MAX_HELD_BYTES = 512 * 2**20


class Memory:
    """Counts the bytes of the bodies that one process holds, from their reading until their requests are answered."""

    def __init__(self) -> None:
        self._held = 0

    @contextlib.contextmanager
    def holding(self, model: str) -> Iterator[Callable[[int], None]]:
        """Yields a function that reserves bytes until the end of the `with`. It raises RequestError beyond the limit.

        `model` is the one that the request names, for the metrics.
        """
        reserved = 0

        def reserve(size: int) -> None:
            nonlocal reserved
            if self._held + size > MAX_HELD_BYTES:
                shed_for_memory(model)
                raise problems.unavailable(
                    "The large requests that are waiting take all memory for bodies. Try again later.", 5
                )
            self._held += size
            reserved += size

        try:
            yield reserve
        finally:
            self._held -= reserved
