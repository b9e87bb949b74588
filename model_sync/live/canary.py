"""The canary: a new version has to stand a share of the live traffic before it gets all of it."""

from __future__ import annotations

import threading
import time

from loguru import logger

from bunriwiki.model_store.generation import Canary, Target
from bunriwiki.model_store.rollover import FailsLiveError
from bunriwiki.model_store.writer import StoreWriter, SupersededError
from model_sync.live.analysis import LiveLimits, enough, judge
from model_sync.live.metrics_window import Observation
from model_sync.sandbox.run import StoppedError
from model_sync.syncing.report import Report

LOOK_EVERY = 0.5  # seconds


class CanaryTrial:
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

    def try_on(self, target: Target) -> None:
        """Have `target`, which every worker has, meet live traffic; returns when it may serve.

        With too few requests it may. Where no version of the store serves yet, or no worker lives, there is nothing to compare
        it with, and it is not tried. Raises FailsLiveError, SupersededError and StoppedError.
        """
        serving = self._writer.generations().of(self._model).serving
        if serving is None or not any(one.role == self._model for one in self._writer.heartbeats.alive()):
            return
        observation = Observation(self._writer.heartbeats, self._model, target.version, serving.version, self._limits.stuck)
        self._writer.try_on(self._model, target, self._canary)
        self._watch(target, observation)

    def _watch(self, target: Target, observation: Observation) -> None:
        as_what = f"as a {'shadow' if self._canary.shadow else 'canary'} on {self._canary.share:.0%} of the batches"
        begun = time.monotonic()
        while not self._stopping.wait(LOOK_EVERY):
            if self._writer.generations().of(self._model).preparing != target:
                raise SupersededError(f"{self._model}:{target.version} is no longer wanted")
            figures = observation.look()
            lasted = time.monotonic() - begun
            told = f"{target.version} {as_what} since {lasted:.0f} s: {figures}"
            self._report.watched(self._model, told)
            if reason := judge(figures, self._limits):
                seen = ", which no client saw" if self._canary.shadow else ""
                raise FailsLiveError(f"{as_what}: {reason}, in {lasted:.0f} s{seen}")
            if enough(figures, self._limits, shadow=self._canary.shadow):
                logger.info("{} {}", self._model, told)
                return
            if lasted > self._seconds:
                logger.warning("{} {}. These are too few to judge it by; it serves all the same", self._model, told)
                return
        raise StoppedError
