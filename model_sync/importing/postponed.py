"""When an import that came to no decision is tried again: a busy machine may take long to become quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_PAUSE_SECONDS = 10.0
MAX_PAUSE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Pause:
    """After `attempts` without a decision, the next one is due at `until`. `reason` says what the last one found."""

    attempts: int
    until: float
    reason: str


@dataclass(slots=True)
class Postponed:
    """The offers of one model that are tried again, by digest, since the sidecar started.

    The pauses double from FIRST_PAUSE_SECONDS to MAX_PAUSE_SECONDS, and never end: nothing is concluded from the number of
    attempts. `clock` returns seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _pauses: dict[str, Pause] = field(default_factory=dict)

    def add(self, digest: str, reason: str) -> None:
        """An attempt came to no decision, for `reason`."""
        attempts = self._pauses[digest].attempts + 1 if digest in self._pauses else 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(attempts - 1, 20), MAX_PAUSE_SECONDS)
        self._pauses = {digest: Pause(attempts, self.clock() + pause, reason)}  # older offers are not offered again

    def seconds(self, digest: str) -> float:
        """Seconds until the next attempt; 0 if it is due."""
        pause = self._pauses.get(digest)
        return max(0.0, pause.until - self.clock()) if pause else 0.0

    def sentence(self, digest: str) -> str:
        """What the last attempt found, and when the next one is due. An attempt must have been added."""
        pause = self._pauses[digest]
        return f"{pause.reason}. Undecided in attempt {pause.attempts}; the next one begins in {self.seconds(digest):.0f} s"
