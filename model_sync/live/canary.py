"""The canary: a new version answers a share of the live traffic before it serves all of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from loguru import logger

from bunriwiki.model_store.generation import Canary, Generations, Target
from bunriwiki.model_store.promotion import FailsLiveError
from bunriwiki.model_store.writer import StoreWriter, SupersededError
from model_sync.errors import SyncCancelledError
from model_sync.live.analysis import LiveLimits, enough, judge
from model_sync.live.metrics_window import MetricsWindow
from model_sync.syncing.report import Report

POLL_SECONDS = 0.5


class CanaryRollout:
    """Tests a model's new versions on live traffic as `canary` says, for at most `seconds` each, until `stopping` is set.

    `clock` is in seconds.
    """

    def __init__(
        self,
        model: str,
        writer: StoreWriter,
        report: Report,
        limits: LiveLimits,
        *,
        canary: Canary,
        seconds: float,
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._writer = writer
        self._report = report
        self._limits = limits
        self._canary = canary
        self._seconds = seconds
        self._stopping = stopping
        self._clock = clock

    def start_canary(self, target: Target) -> None:
        """Send live traffic to `target`, which every worker has prepared; returns when it may be activated.

        It may also be activated if the time was too short for a decision, or if an operator ends the canary. While an operator
        has paused it, it keeps its share of the traffic, its time stands still, and it is judged all the same. The canary is
        skipped if nothing was ever promoted, or if no worker is alive and it is not paused: there is nothing to compare with.
        Raises FailsLiveError if the version exceeds a limit, SupersededError and SyncCancelledError.
        """
        current = self._writer.generations().of(self._model)
        has_workers = any(worker.role == self._model for worker in self._writer.heartbeats.alive())
        if current.serving is None or not (has_workers or current.paused == target.version):
            return
        before = current.serving.version
        window = MetricsWindow(self._writer.heartbeats, self._model, target.version, before, self._limits.stuck)
        self._writer.start_canary(self._model, target, self._canary)
        self._monitor(target, window)

    def _monitor(self, target: Target, window: MetricsWindow) -> None:
        mode = f"as a {'shadow' if self._canary.shadow else 'canary'} on {self._canary.share:.0%} of the batches"
        began = last = self._clock()
        paused_seconds = 0.0
        while not self._stopping.wait(POLL_SECONDS):
            current = self._writer.generations().of(self._model)
            if current.preparing != target:
                raise SupersededError(f"{self._model}:{target.version} is no longer wanted")
            if current.canary is None:
                return
            paused = current.paused == target.version
            now = self._clock()
            paused_seconds += now - last if paused else 0.0
            last, duration = now, now - began
            metrics = window.read()
            progress = f"{target.version} {mode} for {duration:.0f} s{', paused' if paused else ''}: {metrics}"
            self._report.rollout(self._model, progress)
            if exceeded := judge(metrics, self._limits):
                effect = "; no client was affected" if self._canary.shadow else ""
                raise FailsLiveError(f"{mode}: {exceeded}, in {duration:.0f} s{effect}", exceeded.limit)
            if paused:
                continue
            if enough(metrics, self._limits, shadow=self._canary.shadow):
                logger.info("{} {}", self._model, progress)
                if self._end(target):
                    return
            if duration - paused_seconds > self._seconds:
                logger.warning("{} {}. Too little for a decision: the version is activated anyway", self._model, progress)
                if self._end(target):
                    return
        raise SyncCancelledError

    def _end(self, target: Target) -> bool:
        """End the canary, so that no operator can pause it any more; returns whether it ended: it may just have been paused."""

        def ended(old: Generations) -> Generations:
            now = old.of(self._model)
            is_paused = now.paused == target.version
            return old if is_paused or now.preparing != target else old.start_canary(self._model, None)

        return self._writer.change(ended).of(self._model).canary is None
