"""A fake of SyncRequests whose syncs end with chosen outcomes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from loguru import logger

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import Trigger
from model_sync.syncing.requests import Outcome, SyncStatus


class FakePendingSync:
    """A sync of all models that ends when `end` is called: with `status` for the first model, `unchanged` for the others."""

    def __init__(self, status: SyncStatus) -> None:
        self._outcomes = {model: Outcome(model, status if model == MODELS[0] else "unchanged") for model in MODELS}
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    def wait(self, seconds: float) -> dict[str, Outcome] | None:
        return self._outcomes if self._ended.wait(seconds) else None


class FakeSyncRequests:
    """Its syncs end with `statuses`, in this order, then with `unchanged`; at once, or with `hold` when the test ends them."""

    def __init__(self, *statuses: SyncStatus, hold: bool = False) -> None:
        self._statuses = iter(statuses)
        self._hold = hold
        self.pending: list[FakePendingSync] = []
        self.calls: list[tuple[Trigger, Collection[str] | None, bool]] = []

    def request(self, by: Trigger, models: Collection[str] | None = None, *, force: bool = False) -> FakePendingSync:
        pending = FakePendingSync(next(self._statuses, "unchanged"))
        if not self._hold:
            pending.end()
        self.calls.append((by, models, force))
        self.pending.append(pending)
        return pending


@contextmanager
def running(run: Callable[[], None], stop: threading.Event) -> Iterator[threading.Thread]:
    """Runs `run` in a thread, which must end within two seconds of `stop`."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(2)
        assert not thread.is_alive()


@contextmanager
def logged(level: str = "INFO") -> Iterator[list[str]]:
    """The lines that are logged within the context."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}", level=level)
    try:
        yield lines
    finally:
        logger.remove(sink)
