"""How much memory the requests of all doors may take together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from bunriwiki.protocols.handlers import errors

MAX_HELD_BYTES = 512 * 2**20


class Memory:
    """How many bytes of bodies one process holds, those that are still being read and those whose request waits."""

    def __init__(self) -> None:
        self._held = 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Gives a function that takes bytes, and gives them all back at the end. It raises RequestError when there are none."""
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            if self._held + size > MAX_HELD_BYTES:
                raise errors.unavailable("More large requests are waiting than there is memory for. Try again later.", 5)
            self._held += size
            mine += size

        try:
            yield take
        finally:
            self._held -= mine
