"""The rollout monitor: if a new version fails on live traffic, it is rolled back automatically."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from loguru import logger

from bunriwiki.model_store.generation import GenerationError, ModelGeneration, Target
from bunriwiki.model_store.names import FALLBACK, FALLBACK_SOURCE
from bunriwiki.model_store.promotion import CannotLoadError, PromotionError, promote
from bunriwiki.model_store.publication import registry_digest
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import StoreWriter
from model_sync.live.analysis import Exceeded, LiveLimits, judge, judge_accuracy
from model_sync.live.metrics_window import MetricsWindow
from model_sync.quality.accuracy import Rated
from model_sync.syncing.report import Report

POLL_SECONDS = 0.5
FEEDBACK_POLL_SECONDS = 5.0
RETRY_SECONDS = 1.0  # until a rollback is tried again
SETTLE_SECONDS = 30.0  # at most, after a rollback, until the last batches are answered and counted in the heartbeats
UNKNOWN = "unknown"  # the digest of a version that did not come from a registry

Ratings = Callable[[str, float], Rated]  # the known feedback on a version since a time, in seconds since the epoch


class RolloutMonitor:
    """Monitors each new version of a model for `seconds`, in a thread per version; 0 disables it.

    With `ratings`, the accuracy of the version is monitored for as long as it serves, because feedback comes late. Monitoring
    ends early if another version replaces the version or an operator pins the model. A version that fails is rolled back to the
    previous version, or to the fallback version if there is none or it cannot be loaded. `on_rollback` is called after a
    version was rolled back. `now` returns the seconds since the epoch.
    """

    def __init__(
        self,
        model: str,
        writer: StoreWriter,
        report: Report,
        limits: LiveLimits,
        *,
        seconds: float,
        stopping: threading.Event,
        ratings: Ratings | None = None,
        on_rollback: Callable[[], object] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._model = model
        self._writer = writer
        self._report = report
        self._limits = limits
        self._seconds = seconds
        self._stopping = stopping
        self._ratings = ratings
        self.on_rollback = on_rollback
        self._now = now

    def begin(self, target: Target) -> None:
        """Monitor `target`, which every worker has prepared and which is about to be activated. Returns at once."""
        self._start(target.version, self._writer.generations().of(self._model).serving, self._seconds)

    def resume(self) -> None:
        """Continue the monitoring that the end of another sidecar interrupted. Returns at once."""
        current = self._writer.generations().of(self._model)
        if current.serving is None or _is_result_of_rollback(current.serving, current):
            return
        left = self._seconds - (self._now() - current.serving.since.timestamp())
        if left > 0 or self._quarantine_reason(current.serving.version):
            self._start(current.serving.version, current.previous, max(left, POLL_SECONDS))
        elif self._seconds and self._ratings:
            arguments = current.serving.version, _previous(current.previous), current.generation
            name = f"accuracy of {self._model} {current.serving.version}"
            threading.Thread(target=self._run, args=(self._monitor_accuracy, *arguments), name=name, daemon=True).start()

    def _start(self, version: str, before: Target | None, seconds: float) -> None:
        if not self._seconds:
            return
        previous = _previous(before)
        window = MetricsWindow(self._writer.heartbeats, self._model, version, previous, self._limits.stuck)
        name = f"monitor {self._model} {version}"
        arguments = self._monitor, version, window, seconds
        threading.Thread(target=self._run, args=arguments, name=name, daemon=True).start()

    def _run(self, monitor: Callable[..., None], version: str, *arguments: object) -> None:
        try:
            monitor(version, *arguments)
        except Exception:  # the version keeps serving without a monitor, which the log has to show
            logger.exception("the rollout monitor of {} {} failed", self._model, version)

    def _monitor(self, version: str, window: MetricsWindow, seconds: float) -> None:
        served_before = window.served_before_window()
        generation, began, duration = 0, 0.0, 0.0
        while not self._stopping.wait(POLL_SECONDS):
            metrics = window.read(served_before)
            current = self._read()
            if current is None or _is_about_to_serve(current, version):
                continue
            if not _serves(current, version) or current.pinned or generation not in (0, current.generation):
                if generation:
                    self._report.rollout(
                        self._model, f"{version} was monitored for {duration:.0f} s, until it was replaced or pinned: {metrics}"
                    )
                return
            if not generation:
                generation, began = current.generation, time.monotonic()
            duration = time.monotonic() - began
            rated, rated_before = self._feedback(version, metrics.before, current)
            metrics = replace(metrics, rated=rated, rated_before=rated_before)
            interrupted = self._quarantine_reason(version)
            exceeded = None if interrupted else judge(metrics, self._limits)
            if interrupted or exceeded:
                reason = interrupted or str(exceeded)
                if self._roll_back(version, f"{reason}, in {duration:.0f} s", exceeded):
                    self._sum_up(version, reason, window)
                return
            if duration > seconds:
                self._report.rollout(self._model, f"{version} was monitored for {duration:.0f} s: {metrics}")
                logger.info("{} {} keeps serving after {:.0f} s on live traffic: {}", self._model, version, duration, metrics)
                self._monitor_accuracy(version, metrics.before, generation)
                return
            if not current.canary:  # otherwise the report is about the canary of the next version
                self._report.rollout(self._model, f"{version} monitored for {duration:.0f} s: {metrics}")

    def _monitor_accuracy(self, version: str, before: str, generation: int) -> None:
        """Monitor the accuracy by feedback, as long as the version serves in this generation. A pin suspends it."""
        while self._ratings and not self._stopping.wait(FEEDBACK_POLL_SECONDS):
            current = self._read()
            if current is None or (current.pinned and current.generation == generation):
                continue
            if current.generation != generation:
                return
            rated, rated_before = self._feedback(version, before, current)
            if reason := judge_accuracy(rated, rated_before, before, self._limits):
                self._roll_back(version, reason, Exceeded("quality", reason))
                return

    def _feedback(self, version: str, before: str, current: ModelGeneration) -> tuple[Rated, Rated]:
        """The known feedback on the version since it serves, and all that is kept on the previous version."""
        if not self._ratings or not current.serving:
            return Rated(), Rated()
        return self._ratings(version, current.serving.since.timestamp()), self._ratings(before, 0.0)

    def _roll_back(self, version: str, reason: str, exceeded: Exceeded | None) -> bool:
        """Promote the previous version, or else the fallback version; whether `version` no longer serves.

        Without `exceeded`, it is in quarantine already.
        """
        current = self._read()
        if current is None or not _serves(current, version):
            return False
        self._report.rollout(self._model, f"{version} is being rolled back: {reason}")
        if exceeded:
            self._put_in_quarantine(version, reason, f"live_{exceeded.limit}")
        earlier = self._earlier(current)
        while current and _serves(current, version):
            to, source = earlier[0]
            logger.error("{} is rolled back from {} to {}: {}", self._model, version, to, reason)
            try:
                promote(self._writer, self._model, to, source, "monitor", instead_of=version)
            except CannotLoadError as error:
                logger.error("{} cannot be rolled back to {}: {}", self._model, to, error)
                if to == FALLBACK:
                    self._report.rollout(self._model, f"{version} keeps serving because {to} cannot be loaded: {reason}")
                    return False
                del earlier[0]
            except (PromotionError, OSError, GenerationError) as error:  # another version was wanted, or the disk is full
                logger.error("{} is not rolled back yet: {}", self._model, error)
                if self._stopping.wait(RETRY_SECONDS):
                    return False
            current = self._read() or current
        self._report.rollout(self._model, f"{version} was rolled back: {reason}")
        self.on_rollback()
        return True

    def _earlier(self, current: ModelGeneration) -> list[tuple[str, str]]:
        """The versions to go back to, the best one first, with their sources: the last one is the fallback version."""
        previous = current.previous
        fallback = (FALLBACK, FALLBACK_SOURCE)
        if previous is None or previous.version == FALLBACK:
            return [fallback]
        on_disk = self._writer.layout.can_serve(self._model, previous.version)
        if not on_disk or self._writer.quarantine.find(self._model, previous.version):
            return [fallback]
        return [(previous.version, previous.source), fallback]

    def _sum_up(self, version: str, reason: str, window: MetricsWindow) -> None:
        """Report all failures: the version answered requests until the rollback was complete."""
        served = window.read_when_settled(SETTLE_SECONDS, self._stopping).served
        total = f"Until the rollback, {served.failures} of {served.inputs} inputs had failed"
        logger.info("{} {} was rolled back. {}", self._model, version, total)
        self._report.rollout(self._model, f"{version} was rolled back: {reason}. {total}")

    def _put_in_quarantine(self, version: str, reason: str, cause: str) -> None:
        digest = registry_digest(self._writer.layout.version(self._model, version)) or UNKNOWN
        quarantined = Quarantined(model=self._model, version=version, digest=digest, reason=reason, at=datetime.now(UTC))
        try:
            self._writer.put_in_quarantine(quarantined, "monitor", cause=cause)
        except OSError as error:  # a full disk must not prevent the rollback
            logger.error("{} {} cannot be put into quarantine: {}", self._model, version, error)

    def _quarantine_reason(self, version: str) -> str | None:
        """Why the version is in quarantine, by a monitor that did not complete its rollback; None if it is not."""
        found = self._writer.quarantine.find(self._model, version)
        return found.reason if found else None

    def _read(self) -> ModelGeneration | None:
        """The model's generation; None if the file cannot be read at the moment."""
        try:
            return self._writer.generations().of(self._model)
        except GenerationError as error:
            logger.error("the rollout monitor of {} cannot read the generation file: {}", self._model, error)
            return None


def _previous(before: Target | None) -> str:
    return before.version if before else FALLBACK


def _serves(current: ModelGeneration, version: str) -> bool:
    return current.serving is not None and current.serving.version == version


def _is_about_to_serve(current: ModelGeneration, version: str) -> bool:
    return current.preparing is not None and current.preparing.version == version and not _serves(current, version)


def _is_result_of_rollback(serving: Target, current: ModelGeneration) -> bool:
    """Whether the monitor or an operator went back to the serving version. It is not monitored."""
    by_operator = serving.by == "operator" and bool(current.held)
    return serving.version == FALLBACK or serving.by == "monitor" or by_operator
