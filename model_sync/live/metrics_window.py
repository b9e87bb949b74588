"""What a version does on live traffic from some moment on, computed from the workers' heartbeats."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable

from bunriwiki.model_store.heartbeats import EVERY, GATEWAY_ROLE, Heartbeat, Heartbeats, Served, Shadowed
from model_sync.live.analysis import LiveMetrics

SETTLE_POLL_SECONDS = 0.1
SILENT = 15.0  # seconds without a heartbeat: a worker that died would have been replaced by then


class MetricsWindow:
    """The metrics since its creation. Call `read` often enough to get a late heartbeat of every worker.

    A worker's counts are cumulative: the window subtracts what a worker had counted before the window, and counts a worker that
    started later from zero. `before` is the previous version, which may be `FALLBACK`. A batch that takes longer than `stuck`
    seconds counts as stuck. All times are those at which the window saw a change, in seconds of the monotonic clock `now`: a
    clock that jumps makes no batch long.
    """

    def __init__(
        self,
        heartbeats: Heartbeats,
        model: str,
        version: str,
        before: str,
        stuck: float,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._heartbeats = heartbeats
        self._model = model
        self._version = version
        self._before = before
        self._stuck = stuck
        self._now = now
        self._first = {heartbeat.worker: heartbeat for heartbeat in self._alive()}
        self._last = dict(self._first)
        self._heard = dict.fromkeys(self._first, now())  # by worker: when its last heartbeat was seen first
        self._busy: dict[str, tuple[float, float]] = {}  # by worker: `busy_since` of its batch, and when that was seen first
        self._ending: set[str] = set()
        self._observe(self._first.values())

    def served_before_window(self) -> Served:
        """What the previous version had done before the window began."""
        return _total(heartbeat.served_by(self._before) for heartbeat in self._first.values())

    def read(self, served_before: Served | None = None) -> LiveMetrics:
        """The metrics so far. `served_before` replaces what the previous version did within the window."""
        alive = self._alive()
        self._observe(alive)
        self._ending |= {heartbeat.worker for heartbeat in alive if heartbeat.state == "ending"}
        deaths, silent = self._losses(alive)
        return LiveMetrics(
            version=self._version,
            before=self._before,
            served=self._since(self._version),
            served_before=self._since(self._before) if served_before is None else served_before,
            shadowed=self._compared(),
            stuck=sum(self._is_stuck(heartbeat) for heartbeat in alive) + silent,
            deaths=deaths,
        )

    def read_when_settled(self, seconds: float, stopping: threading.Event) -> LiveMetrics:
        """The metrics once the version, which no longer serves, has answered its last batches and they are counted.

        That is when nothing changed between two heartbeats of every worker that is alive. Returns after `seconds` at the
        latest, or when `stopping` is set.
        """
        end = self._now() + seconds
        metrics, since = self.read(), self._written()
        while self._now() < end and not stopping.wait(SETTLE_POLL_SECONDS):
            written = self._written()
            if all(at - since.get(worker, 0.0) > 2 * EVERY for worker, at in written.items()):
                before, metrics, since = metrics, self.read(), written
                if metrics.served == before.served and not any(beat.busy_with == self._version for beat in self._last.values()):
                    break
        return metrics

    def _written(self) -> dict[str, float]:
        """When each live worker wrote its last heartbeat."""
        return {heartbeat.worker: heartbeat.at for heartbeat in self._alive()}

    def _alive(self) -> list[Heartbeat]:
        """The heartbeats of the model's live runners and of the live gateways."""
        return [heartbeat for heartbeat in self._heartbeats.alive() if heartbeat.role in (self._model, GATEWAY_ROLE)]

    def _observe(self, alive: Iterable[Heartbeat]) -> None:
        now = self._now()
        for heartbeat in alive:
            name, before = heartbeat.worker, self._last.get(heartbeat.worker)
            if before is None or before.at != heartbeat.at:
                self._heard[name] = now
            if heartbeat.busy_with != self._version or not heartbeat.busy_since:
                self._busy.pop(name, None)
            elif name not in self._busy or self._busy[name][0] != heartbeat.busy_since:
                self._busy[name] = heartbeat.busy_since, now
            self._last[name] = heartbeat

    def _is_stuck(self, heartbeat: Heartbeat) -> bool:
        """Only up to the last heartbeat: that of a worker that just died may say that it was busy."""
        _, began = self._busy.get(heartbeat.worker, (0.0, math.inf))
        return self._heard[heartbeat.worker] - began > self._stuck

    def _since(self, version: str) -> Served:
        return _total(
            _difference(last.served_by(version), self._first[name].served_by(version))
            if name in self._first
            else last.served_by(version)
            for name, last in self._last.items()
        )

    def _compared(self) -> Shadowed:
        key, nothing = f"{self._model}:{self._version}", Shadowed()
        inputs = differing = 0
        for name, last in self._last.items():
            latest = last.shadowed.get(key, nothing)
            first = self._first[name].shadowed.get(key, nothing) if name in self._first else nothing
            if latest.inputs < first.inputs:
                first = nothing
            inputs += latest.inputs - first.inputs
            differing += latest.differing - first.differing
        return Shadowed(inputs=inputs, differing=differing)

    def _losses(self, alive: Iterable[Heartbeat]) -> tuple[int, int]:
        """How many runners died and were started again, and how many are silent although their service is alive.

        A service that is stopped, or replaced by another service, loses workers but does not start them again.
        """
        living = {heartbeat.worker for heartbeat in alive}
        services = {heartbeat.service for heartbeat in alive}
        deaths = silent = 0
        for service in services:
            runners = [last for last in self._last.values() if last.role == self._model and last.service == service]
            appeared = [runner for runner in runners if runner.worker not in self._first]
            gone = [
                runner
                for runner in runners
                if runner.worker not in living | self._ending
                # A worker that had not prepared the version may have ended itself because it was too late.
                and (runner.worker not in self._first or runner.prepared(self._version))
            ]
            deaths += min(len(gone), len(appeared))
            if len(gone) > len(appeared):
                silent += sum(self._now() - self._heard[runner.worker] > max(self._stuck, SILENT) for runner in gone)
        return deaths, silent


def _total(parts: Iterable[Served]) -> Served:
    total = Served()
    for part in parts:
        total = total.plus(part)
    return total


def _difference(last: Served, first: Served) -> Served:
    """What a worker counted between two heartbeats. Workers drop the counts of versions that have not answered for long."""
    return last if last.inputs < first.inputs else last.plus(first, -1)
