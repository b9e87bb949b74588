"""The canary: a new version has to stand a share of the live traffic before it gets all of it."""

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

POLL_SECONDS = 0.5  # seconds


class CanaryRollout:
    """Tries one model's new versions as `canary` says, for at most `seconds` each."""

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
        """Have `target`, which every worker has, meet live traffic; returns when it may serve.

        With too few requests it may. Where no version of the store serves yet, or no worker lives, there is nothing to compare
        it with, and it is not tried. Raises FailsLiveError, SupersededError and SyncCancelledError.
        """
        serving = self._writer.generations().of(self._model).serving
        if serving is None or not any(one.role == self._model for one in self._writer.heartbeats.alive()):
            return
        window = MetricsWindow(self._writer.heartbeats, self._model, target.version, serving.version, self._limits.stuck)
        self._writer.start_canary(self._model, target, self._canary)
        self._watch(target, window)

    def _watch(self, target: Target, window: MetricsWindow) -> None:
        as_what = f"as a {'shadow' if self._canary.shadow else 'canary'} on {self._canary.share:.0%} of the batches"
        begun = time.monotonic()
        while not self._stopping.wait(POLL_SECONDS):
            if self._writer.generations().of(self._model).preparing != target:
                raise SupersededError(f"{self._model}:{target.version} is no longer wanted")
            metrics = window.read()
            lasted = time.monotonic() - begun
            told = f"{target.version} {as_what} since {lasted:.0f} s: {metrics}"
            self._report.rollout(self._model, told)
            if reason := judge(metrics, self._limits):
                seen = ", which no client saw" if self._canary.shadow else ""
                raise FailsLiveError(f"{as_what}: {reason}, in {lasted:.0f} s{seen}")
            if enough(metrics, self._limits, shadow=self._canary.shadow):
                logger.info("{} {}", self._model, told)
                return
            if lasted > self._seconds:
                logger.warning("{} {}. These are too few to judge it by; it serves all the same", self._model, told)
                return
        raise SyncCancelledError
