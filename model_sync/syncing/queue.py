"""Sync queues: the syncs of one model run one after the other; requests that arrive during a sync share the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from loguru import logger

from bunriwiki.model_store.generation import Trigger
from model_sync.errors import SyncCancelledError
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome, PendingSync

Sync = Callable[..., Outcome]  # (by, *, force)


class SyncQueue:
    """The syncs of one model, made by a thread of its own."""

    def __init__(self, model: str, sync: Sync, report: Report) -> None:
        self.model = model
        self._sync = sync
        self._report = report
        self._changed = threading.Condition()
        self._requested = 0  # number of the last request
        self._started = 0  # the last request that the sync that started last covers
        self._finished = 0  # and the one that finished last
        self._by: Trigger = "start"
        self._force = False
        self._stopped = False
        self._outcome: Outcome | None = None

    def request(self, by: Trigger, *, force: bool) -> int:
        """Request a sync that starts after this call; the number of the request."""
        with self._changed:
            if self._requested == self._started or by == "operator":
                self._by = by
            self._force |= force
            self._requested += 1
            self._changed.notify_all()
            return self._requested

    def wait(self, number: int, until: float) -> Outcome | None:
        """The outcome of the sync that covers request `number`; None if there is none at `until`, of `time.monotonic()`."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished >= number, until - time.monotonic())
            return self._outcome if self._finished >= number else None

    def run(self) -> None:
        """Sync whenever that is requested. Blocks until `stop`, or until a sync finds that the sidecar shuts down."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._requested > self._finished)
                if self._stopped:
                    return
                number, by, force = self._requested, self._by, self._force
                self._started = number
                self._force = False
            try:
                outcome = self._sync(by, force=force)
            except SyncCancelledError:
                return
            except Exception as error:  # the version that serves is not affected, and the next sync may succeed
                logger.exception("the sync of {} failed", self.model)
                outcome = Outcome(self.model, "failed", reason=f"{type(error).__name__}: {error}")
            self._report.ended(outcome)
            with self._changed:
                self._finished, self._outcome = number, outcome
                self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class SyncQueues:
    """A queue per model (a `requests.SyncRequests`)."""

    def __init__(self, queues: Iterable[SyncQueue]) -> None:
        self._queues = {queue.model: queue for queue in queues}

    def request(self, by: Trigger, models: Collection[str] | None = None, *, force: bool = False) -> PendingSync:
        wanted = self._queues.keys() if models is None else models
        known = [model for model in wanted if model in self._queues]
        numbers = {self._queues[model]: self._queues[model].request(by, force=force) for model in known}
        return _Pending(numbers, [model for model in wanted if model not in self._queues])


class _Pending:
    def __init__(self, numbers: Mapping[SyncQueue, int], others: Sequence[str]) -> None:
        self._numbers = numbers
        self._others = {model: Outcome(model, "unchanged", reason="no registry is configured for it") for model in others}

    def wait(self, seconds: float) -> dict[str, Outcome] | None:
        until = time.monotonic() + seconds
        found = {queue.model: queue.wait(number, until) for queue, number in self._numbers.items()}
        return {model: one for model, one in found.items() if one} | self._others if all(found.values()) else None
