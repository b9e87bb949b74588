"""Readiness at the start: the first sync with the registries comes before the first request."""

from __future__ import annotations

import time
from pathlib import Path

from bunriwiki.model_store.sync_state import SyncWatch


class FirstSync:
    """Whether the service waits for the first sync, for at most `seconds`. Once it does not wait, it never waits again.

    `path` is the sidecar's `sync.json`. `expected`: a sidecar should run, though it has not written the file yet. `started` is
    the start of the service in seconds since the epoch: a worker that is replaced later does not wait again.
    """

    def __init__(self, path: Path, seconds: float, *, expected: bool, started: float) -> None:
        self._sync = SyncWatch(path)
        self.expected = expected
        self._until = started + seconds
        self._over = False

    def pending(self) -> str | None:
        """What the start waits for, in a phrase; None if it does not wait. Reads a file."""
        if not self._over:
            self._over = time.time() > self._until or not self._is_syncing()
        return None if self._over else "the sidecar has not synced with every registry yet"

    def _is_syncing(self) -> bool:
        state, is_alive = self._sync.read()
        if state is None or not is_alive:
            return self.expected
        return not state.has_synced
