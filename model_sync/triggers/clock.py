"""The clock: a sync at every interval, and sooner after an outcome that a later sync may fix."""

from __future__ import annotations

import random
import threading
from collections.abc import Collection

from model_sync.syncing.requests import RETRYABLE, PendingSync, SyncRequests

FIRST_RETRY = 5.0  # seconds
JITTER = 0.1  # share of a pause: replicas that start together do not query the registries at the same moment
STOP_CHECK = 0.5  # seconds between two checks of `stop` during a sync


class Clock:
    """Requests a sync of `models`, or of all models, every `interval` seconds.

    The first sync starts one interval after the start of `run`, each later sync one interval after the end of the last. After
    an outcome in RETRYABLE the pause is 5 s, then 10 s, 20 s and so on, up to the interval. `rng` varies each pause by up to
    10 % in either direction.
    """

    def __init__(
        self,
        syncs: SyncRequests,
        interval: float,
        stop: threading.Event,
        models: Collection[str] | None = None,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._syncs = syncs
        self._interval = interval
        self._stop = stop
        self._models = models
        self._rng = rng or random.Random()  # noqa: S311 (the time of a sync is no secret)

    def run(self) -> None:
        """Request syncs until `stop` is set. Returns within a second of that."""
        first_retry = min(FIRST_RETRY, self._interval)
        pause, retry = self._interval, first_retry
        while not self._stop.wait(pause * self._rng.uniform(1 - JITTER, 1 + JITTER)):
            if self._needs_retry(self._syncs.request("poll", self._models)):
                pause, retry = retry, min(retry * 2, self._interval)
            else:
                pause, retry = self._interval, first_retry

    def _needs_retry(self, pending: PendingSync) -> bool:
        """Wait for the sync; whether a later sync may succeed. Returns False if `stop` is set first."""
        while (outcomes := pending.wait(STOP_CHECK)) is None:
            if self._stop.is_set():
                return False
        return any(outcome.status in RETRYABLE for outcome in outcomes.values())
