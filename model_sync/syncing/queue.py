"""Sync queues: the syncs of one model run one after the other; requests that arrive during a sync share the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from loguru import logger

from bunriwiki.model_store.generation import Trigger
from bunriwiki.model_store.history import ACTING_TOKEN
from model_sync.errors import SyncCancelledError
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome, PendingSync

Sync = Callable[..., Outcome]  # (by, *, force)


class SyncQueue:
    """The syncs of one model, which the thread that calls `run` executes.

    A sync that an operator requested acts with the operator's token (`ACTING_TOKEN`); of several operators, the last one's.
    """

    def __init__(self, model: str, sync: Sync, report: Report) -> None:
        self.model = model
        self._sync = sync
        self._report = report
        self._changed = threading.Condition()
        self._requested = 0  # number of the last request
        self._started = 0  # number of the last request that the current or last sync covers
        self._finished = 0  # number of the last request that a finished sync covers
        self._by: Trigger = "start"
        self._force = False
        self._token: str | None = None
        self._stopped = False
        self._outcome: Outcome | None = None
        self._pause: float | None = None  # seconds until this queue requests a sync itself

    def request(self, by: Trigger, *, force: bool) -> int:
        """Request a sync that starts after this call; returns the number of the request."""
        with self._changed:
            if self._requested == self._started or by == "operator":
                self._by = by
                self._token = ACTING_TOKEN.get() if by == "operator" else None
            self._force |= force
            self._requested += 1
            self._changed.notify_all()
            return self._requested

    def wait(self, number: int, until: float) -> Outcome | None:
        """The outcome of a sync that covers request `number`; None if there is none by `until`, a `time.monotonic()` value."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished >= number, until - time.monotonic())
            return self._outcome if self._finished >= number else None

    def depth(self) -> int:
        """The number of requests that no sync has finished yet."""
        with self._changed:
            return self._requested - self._finished

    def run(self) -> None:
        """Run every requested sync, and one whenever an undecided import is due again.

        Blocks until `stop`, or until a sync is cancelled because the sidecar shuts down.
        """
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._stopped or self._requested > self._finished, self._pause):
                    self._requested, self._by = self._requested + 1, "poll"
                if self._stopped:
                    return
                number, by, force = self._requested, self._by, self._force
                self._started = number
                self._force = False
                ACTING_TOKEN.set(self._token if by == "operator" else None)
            try:
                outcome = self._sync(by, force=force)
            except SyncCancelledError:
                return
            except Exception as error:  # the version that serves is not affected, and the next sync may succeed
                logger.exception("the sync of {} failed", self.model)
                outcome = Outcome(self.model, "failed", reason=f"{type(error).__name__}: {error}")
            self._report.ended(outcome)
            with self._changed:
                self._finished, self._outcome, self._pause = number, outcome, outcome.retry_seconds
                self._changed.notify_all()

    def stop(self) -> None:
        """Make `run` return after the current sync. Returns at once."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class SyncQueues:
    """A queue per model (implements `requests.SyncRequests`)."""

    def __init__(self, queues: Iterable[SyncQueue]) -> None:
        self._queues = {queue.model: queue for queue in queues}

    def request(self, by: Trigger, models: Collection[str] | None = None, *, force: bool = False) -> PendingSync:
        requested = self._queues.keys() if models is None else models
        known = [model for model in requested if model in self._queues]
        numbers = {self._queues[model]: self._queues[model].request(by, force=force) for model in known}
        return _PendingSyncs(numbers, [model for model in requested if model not in self._queues])


class _PendingSyncs:
    def __init__(self, numbers: Mapping[SyncQueue, int], without_registry: Sequence[str]) -> None:
        self._numbers = numbers
        self._without_registry = {
            model: Outcome(model, "unchanged", reason="no registry is configured for it") for model in without_registry
        }

    def wait(self, seconds: float) -> dict[str, Outcome] | None:
        until = time.monotonic() + seconds
        outcomes = {queue.model: queue.wait(number, until) for queue, number in self._numbers.items()}
        finished = {model: outcome for model, outcome in outcomes.items() if outcome}
        return finished | self._without_registry if len(finished) == len(outcomes) else None
