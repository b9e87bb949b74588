"""How an operator cancels the import of a model that is under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bunriwiki.model_store.generation import CancelledImport
from model_sync.errors import ImportCancelledError
from model_sync.stop_event import StopEvent


class Cancellation:
    """The imports of one model, of which at most one is under way. Thread-safe.

    Every import has to stop once `stop` is set: it is cancelled, or the sidecar shuts down (`stopping`).
    """

    def __init__(self, stopping: StopEvent) -> None:
        self.stop = stopping.child()
        self._changed = threading.Condition()
        self._running: CancelledImport | None = None
        self._is_cancelled = False

    @contextmanager
    def importing(self, version: str, digest: str) -> Iterator[None]:
        """The context of an import. Raises ImportCancelledError at its end if an operator cancelled it, however it ended."""
        with self._changed:
            self._running = CancelledImport(version=version, digest=digest)
            self._is_cancelled = False
            self.stop.clear()
        try:
            yield
        finally:
            with self._changed:  # until this moment it can be cancelled, and not any more
                self._running = None
                self._changed.notify_all()
            if self._is_cancelled:
                raise ImportCancelledError

    def cancel(self, decide: Callable[[CancelledImport], object]) -> CancelledImport | None:
        """Cancel the import that is under way, and return what it imports; None if there is none. It ends soon.

        `decide` makes the decision last; if it raises, nothing is cancelled.
        """
        with self._changed:
            running = self._running
            if running is None:
                return None
            decide(running)
            self._is_cancelled = True
            self.stop.set()
            return running

    def wait(self, seconds: float) -> None:
        """Wait until no import is under way that was cancelled, for at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._running is None or not self._is_cancelled, seconds)
