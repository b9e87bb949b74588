"""SyncRequests that lead to what a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from loguru import logger

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import Trigger
from model_sync.syncing.requests import Outcome, Verdict


class FakePendingSync:
    """A look at all models that ends when `end` is called: in `status` for the first one, in `unchanged` for the others."""

    def __init__(self, status: Verdict) -> None:
        self._outcomes = {model: Outcome(model, status if model == MODELS[0] else "unchanged") for model in MODELS}
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    def wait(self, seconds: float) -> dict[str, Outcome] | None:
        return self._outcomes if self._ended.wait(seconds) else None


class FakeSyncRequests:
    """Ends its looks in `statuses`, one after the other, then in `unchanged`: at once, or when told to if `hold`."""

    def __init__(self, *statuses: Verdict, hold: bool = False) -> None:
        self._statuses = iter(statuses)
        self._hold = hold
        self.asked: list[FakePendingSync] = []
        self.calls: list[tuple[Trigger, Collection[str] | None, bool]] = []

    def request(self, by: Trigger, models: Collection[str] | None = None, *, force: bool = False) -> FakePendingSync:
        asked = FakePendingSync(next(self._statuses, "unchanged"))
        if not self._hold:
            asked.end()
        self.calls.append((by, models, force))
        self.asked.append(asked)
        return asked


def eventually(true: Callable[[], object], seconds: float = 10) -> None:
    """Wait until `true` is, for `seconds` at most."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"it did not come true in {seconds:g} s"
        time.sleep(0.01)


@contextmanager
def running(run: Callable[[], None], stop: threading.Event) -> Iterator[threading.Thread]:
    """`run` in a thread, which has to end within two seconds of `stop`."""
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
    """The lines that are logged meanwhile."""
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}", level=level)
    try:
        yield lines
    finally:
        logger.remove(sink)
