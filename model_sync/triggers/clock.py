"""The clock: a look every interval, and sooner after one that another look may mend."""

from __future__ import annotations

import random
import threading
from collections.abc import Collection

from model_sync.syncing.requests import RETRYABLE, PendingSync, SyncRequests

SOONEST = 5.0  # seconds to the next look after the first one that another may mend
JITTER = 0.1  # replicas that start together do not ask the registries together
STEP = 0.5  # seconds within which `stop` is noticed during a look


class Clock:
    """Asks `looks` for a look at `models`, or at all.

    The first comes an `interval` (seconds) after the start, each other one an interval after the end of the last. After an
    outcome in RETRYABLE the next look comes in 5 s, then 10, 20 and so on, up to the interval. `chance` moves all times by up
    to 10 % either way.
    """

    def __init__(
        self,
        syncs: SyncRequests,
        interval: float,
        stop: threading.Event,
        models: Collection[str] | None = None,
        *,
        chance: random.Random | None = None,
    ) -> None:
        self._syncs = syncs
        self._interval = interval
        self._stop = stop
        self._models = models
        self._chance = chance or random.Random()  # noqa: S311 (when to look is no secret)

    def run(self) -> None:
        """Tick until `stop` is set; it is noticed within a second."""
        soonest = min(SOONEST, self._interval)
        pause, soon = self._interval, soonest
        while not self._stop.wait(pause * self._chance.uniform(1 - JITTER, 1 + JITTER)):
            if self._settles(self._syncs.request("poll", self._models)):
                pause, soon = self._interval, soonest
            else:
                pause, soon = soon, min(soon * 2, self._interval)

    def _settles(self, asked: PendingSync) -> bool:
        """Whether the look leaves nothing that another may mend; also true when `stop` comes first."""
        while (outcomes := asked.wait(STEP)) is None:
            if self._stop.is_set():
                return True
        return not any(outcome.status in RETRYABLE for outcome in outcomes.values())
