"""At the start, waiting for the newest versions: a registry that can be reached is looked at before requests come."""

from __future__ import annotations

import time
from pathlib import Path

from bunriwiki.model_store.sync_state import SyncState


class FirstSync:
    """Says whether the start still has to wait, but no longer than `seconds`; once it has not, it never has again.

    `expected`: a sidecar should be there, though it has said nothing yet. `path` is where it says how it is. `started` is when
    the service did, in seconds since the epoch: a worker that is replaced later does not make it wait again.
    """

    def __init__(self, path: Path, seconds: float, *, expected: bool, started: float) -> None:
        self._path = path
        self.expected = expected
        self._until = started + seconds
        self._over = False

    def pending(self) -> str | None:
        """What the start waits for, in a phrase; None when it does not. Reads a file."""
        if not self._over:
            self._over = time.time() > self._until or not self._is_under_way()
        return None if self._over else "the sidecar has not looked at every registry yet"

    def _is_under_way(self) -> bool:
        state = SyncState.read(self._path)
        if state is None or not state.is_alive:
            return self.expected
        return not state.has_synced
