"""The canary: a new version answers a share of the live traffic before it serves all of it."""

from __future__ import annotations

import threading
import time

from loguru import logger

from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.promotion import FailsLiveError
from bunriwiki.model_store.writer import StoreWriter, SupersededError
from model_sync.errors import SyncCancelledError
from model_sync.live.analysis import LiveLimits, enough, judge
from model_sync.live.metrics_window import MetricsWindow
from model_sync.syncing.report import Report

POLL_SECONDS = 0.5


class CanaryRollout:
    """Tests a model's new versions on live traffic as `canary` says, for at most `seconds` each, until `stopping` is set."""

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
    ) -> None:
        self._model = model
        self._writer = writer
        self._report = report
        self._limits = limits
        self._canary = canary
        self._seconds = seconds
        self._stopping = stopping

    def start_canary(self, target: Target) -> None:
        """Send live traffic to `target`, which every worker has prepared; returns when it may be activated.

        It may also be activated if there were too few requests for a decision. The canary is skipped if no version of the store
        serves yet or no worker is alive: there is nothing to compare with. Raises FailsLiveError if the version exceeds a
        limit, SupersededError and SyncCancelledError.
        """
        serving = self._writer.generations().of(self._model).serving
        if serving is None or not any(worker.role == self._model for worker in self._writer.heartbeats.alive()):
            return
        window = MetricsWindow(self._writer.heartbeats, self._model, target.version, serving.version, self._limits.stuck)
        self._writer.start_canary(self._model, target, self._canary)
        self._monitor(target, window)

    def _monitor(self, target: Target, window: MetricsWindow) -> None:
        mode = f"as a {'shadow' if self._canary.shadow else 'canary'} on {self._canary.share:.0%} of the batches"
        began = time.monotonic()
        while not self._stopping.wait(POLL_SECONDS):
            if self._writer.generations().of(self._model).preparing != target:
                raise SupersededError(f"{self._model}:{target.version} is no longer wanted")
            metrics = window.read()
            duration = time.monotonic() - began
            progress = f"{target.version} {mode} for {duration:.0f} s: {metrics}"
            self._report.rollout(self._model, progress)
            if exceeded := judge(metrics, self._limits):
                effect = "; no client was affected" if self._canary.shadow else ""
                raise FailsLiveError(f"{mode}: {exceeded}, in {duration:.0f} s{effect}", exceeded.limit)
            if enough(metrics, self._limits, shadow=self._canary.shadow):
                logger.info("{} {}", self._model, progress)
                return
            if duration > self._seconds:
                logger.warning("{} {}. Too few requests for a decision: the version is activated anyway", self._model, progress)
                return
        raise SyncCancelledError
