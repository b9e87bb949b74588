"""What the versions of all models answered on a sliding window, computed from the workers' heartbeats."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from bunriwiki.artifacts.features import FEATURES, MAX_LABELS, Histograms, add, inputs, subtract
from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats

STEPS = 60  # into which a window is divided; its length is exact to one of them
MAX_WORKERS = 512  # whose last counts are remembered
MAX_VERSIONS = 16  # of a worker, as in `runners/serving_statistics.py`

Key = tuple[str, str]  # model and version
Counts = Mapping[Key, Histograms]


class SlidingWindow:
    """Sums the workers' cumulative histograms over the last `seconds`. `now` is in seconds.

    The window begins at the first call of `read`: what workers had counted before is in `total` only, and the window of a new
    sidecar fills anew. Of a worker that dies, what it counted since its last heartbeat is lost.
    """

    def __init__(self, heartbeats: Heartbeats, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._heartbeats = heartbeats
        self._seconds = seconds
        self._now = now
        # By worker and version, as of its last heartbeat; the worker that was seen last is the last one. A worker that seemed
        # dead may come back, and must not be counted twice.
        self._seen: dict[str, dict[str, Histograms]] = {}
        self._totals: dict[Key, Histograms] = {}
        self._steps: deque[tuple[float, Counts]] = deque()

    def read(self) -> Counts:
        """What was answered within the window, by model and version; only versions that answered."""
        now = self._now()
        self._count([heartbeat for heartbeat in self._heartbeats.alive() if heartbeat.role in MODELS])
        if not self._steps or now - self._steps[-1][0] >= self._seconds / STEPS:
            self._steps.append((now, dict(self._totals)))
        while len(self._steps) > 1 and now - self._steps[1][0] >= self._seconds:
            self._steps.popleft()
        began = self._steps[0][1]
        window = {key: subtract(total, began.get(key, {})) for key, total in self._totals.items()}
        return {key: histograms for key, histograms in window.items() if inputs(histograms)}

    def total(self, key: Key) -> Histograms:
        """All that the workers have counted that this object has seen."""
        return self._totals.get(key, {})

    def forget(self, keys: set[Key]) -> None:
        """Drop the counts of versions that are no longer in the store."""
        for key in keys:
            self._totals.pop(key, None)

    def _count(self, alive: list[Heartbeat]) -> None:
        for heartbeat in alive:
            before = self._seen.get(heartbeat.worker, {})
            observed = {version: _known(heartbeat.observed[version]) for version in list(heartbeat.observed)[-MAX_VERSIONS:]}
            for version, histograms in observed.items():
                key = heartbeat.role, version
                # A new object: the steps keep the old ones.
                self._totals[key] = add(self._totals.get(key, {}), subtract(histograms, before.get(version, {})))
            self._seen.pop(heartbeat.worker, None)
            self._seen[heartbeat.worker] = observed
        while len(self._seen) > MAX_WORKERS:
            del self._seen[next(iter(self._seen))]


def _known(histograms: Histograms) -> Histograms:
    """The histograms without what no runner of ours counts: third-party code may write a runner's heartbeat."""
    return {feature: dict(list(histograms[feature].items())[: MAX_LABELS + 1]) for feature in FEATURES if feature in histograms}
