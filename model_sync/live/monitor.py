"""The watch over a new version: when it fails on live traffic, the one before serves again, by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from loguru import logger

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.generation import GenerationError, ModelGeneration, Target
from bunriwiki.model_store.promotion import CannotLoadError, PromotionError, promote
from bunriwiki.model_store.publication import registry_digest
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import StoreWriter
from model_sync.live.analysis import LiveLimits, judge
from model_sync.live.metrics_window import MetricsWindow
from model_sync.syncing.report import Report

POLL_SECONDS = 0.5  # seconds
AGAIN = 1.0  # seconds until going back is tried again
SETTLED = 2.5  # seconds until the last batches are answered, and in the heartbeats
UNKNOWN = "unknown"  # the digest of a version that came from no registry


class RolloutMonitor:
    """Watches one model's new versions for `seconds` each, 0 for not at all, each in a thread of its own.

    A version that another one takes the place of, or that a person pins, is watched no longer. `fallback` is the folder of the
    version that serves where none of the store does. `gone_back` is called when a version was taken back.
    """

    def __init__(
        self,
        model: str,
        writer: StoreWriter,
        report: Report,
        limits: LiveLimits,
        *,
        seconds: float,
        fallback: Path,
        stopping: threading.Event,
        gone_back: Callable[[], object] = lambda: None,
    ) -> None:
        self._model = model
        self._writer = writer
        self._report = report
        self._limits = limits
        self._seconds = seconds
        self._fallback = fallback
        self._stopping = stopping
        self.gone_back = gone_back

    def begin(self, target: Target) -> None:
        """RolloutMonitor `target`, which every worker has, and which is to serve in the next moment. Returns at once."""
        self._start(target.version, self._writer.generations().of(self._model).serving, self._seconds)

    def resume(self) -> None:
        """Go on with a watch that the end of another sidecar has cut off. Returns at once."""
        now = self._writer.generations().of(self._model)
        if now.serving is None or now.serving.by == "monitor" or now.held:  # what was gone back to is not watched
            return
        left = self._seconds - (datetime.now(UTC) - now.serving.since).total_seconds()
        if left > 0 or self._is_bad(now.serving.version):
            self._start(now.serving.version, now.previous, max(left, POLL_SECONDS))

    def _start(self, version: str, before: Target | None, seconds: float) -> None:
        if not self._seconds:
            return
        other = before.version if before else Manifest.read(self._fallback).version
        window = MetricsWindow(self._writer.heartbeats, self._model, version, other, self._limits.stuck)
        name = f"watch {self._model} {version}"
        threading.Thread(target=self._run, args=(version, window, seconds), name=name, daemon=True).start()

    def _run(self, version: str, window: MetricsWindow, seconds: float) -> None:
        try:
            self._watch(version, window, seconds)
        except Exception:  # the version stays unwatched; that must not be silent
            logger.exception("the watch over {} {} has ended early", self._model, version)

    def _watch(self, version: str, window: MetricsWindow, seconds: float) -> None:
        before = window.until_it_began()
        generation, since, lasted = 0, 0.0, 0.0
        while not self._stopping.wait(POLL_SECONDS):
            metrics = window.read(before)
            now = self._read()
            if now is None or _is_about_to_serve(now, version):
                continue
            if not _serves(now, version) or now.pinned or generation not in (0, now.generation):
                if generation:
                    self._report.rollout(self._model, f"{version} was watched for {lasted:.0f} s, until a change: {metrics}")
                return
            if not generation:
                generation, since = now.generation, time.monotonic()
            lasted = time.monotonic() - since
            reason = self._is_bad(version) or judge(metrics, self._limits)
            if reason:
                if self._go_back(version, f"{reason}, in {lasted:.0f} s"):
                    self._sum_up(version, reason, window)
                return
            if lasted > seconds:
                self._report.rollout(self._model, f"{version} was watched for {lasted:.0f} s: {metrics}")
                logger.info("{} {} stays after {:.0f} s on live traffic: {}", self._model, version, lasted, metrics)
                return
            if not now.canary:  # that of the next version has the word
                self._report.rollout(self._model, f"{version} since {lasted:.0f} s: {metrics}")

    def _go_back(self, version: str, reason: str) -> bool:
        """Have the version before serve again; whether it does."""
        now = self._read()
        previous = now.previous if now and _serves(now, version) else None
        if previous is None or not self._writer.layout.version(self._model, previous.version).is_dir():
            logger.error("{} {} should not serve, but there is no version to go back to: {}", self._model, version, reason)
            self._report.rollout(self._model, f"{version} stays, as there is no version to go back to: {reason}")
            return False
        logger.error("{} goes back from {} to {}: {}", self._model, version, previous.version, reason)
        self._report.rollout(self._model, f"{version} is taken back: {reason}")
        self._put_in_quarantine(version, reason)
        while now and _serves(now, version):
            try:
                promote(self._writer, self._model, previous.version, previous.source, "monitor", instead_of=version)
            except CannotLoadError as error:
                logger.error("{} cannot go back: {}", self._model, error)
                self._report.rollout(self._model, f"{version} stays, as {previous.version} cannot be loaded: {reason}")
                return False
            except (PromotionError, OSError, GenerationError) as error:  # another version was wanted, or the disk is full
                logger.error("{} has not gone back yet: {}", self._model, error)
                if self._stopping.wait(AGAIN):
                    return False
            now = self._read() or now
        self._report.rollout(self._model, f"{version} was taken back: {reason}")
        self.gone_back()
        return True

    def _sum_up(self, version: str, reason: str, window: MetricsWindow) -> None:
        """Say what clients saw of a version in the end: some were answered by it until it was taken back."""
        self._stopping.wait(SETTLED)
        all_of_it = window.read().served
        seen = f"When it was, {all_of_it.failures} of {all_of_it.inputs} inputs had failed"
        logger.info("{} {} was taken back. {}", self._model, version, seen)
        self._report.rollout(self._model, f"{version} was taken back: {reason}. {seen}")

    def _put_in_quarantine(self, version: str, reason: str) -> None:
        digest = registry_digest(self._writer.layout.version(self._model, version)) or UNKNOWN
        one = Quarantined(model=self._model, version=version, digest=digest, reason=reason, at=datetime.now(UTC))
        try:
            self._writer.put_in_quarantine(one, "monitor")
        except OSError as error:  # a full disk: it does not serve on all the same
            logger.error("{} {} cannot be put into quarantine: {}", self._model, version, error)

    def _is_bad(self, version: str) -> str | None:
        """Why it was quarantined: by a watch that did not come to the end of going back."""
        found = self._writer.quarantine.find(self._model, version)
        return found.reason if found else None

    def _read(self) -> ModelGeneration | None:
        """What is aspired; None when it cannot be read at the moment."""
        try:
            return self._writer.generations().of(self._model)
        except GenerationError as error:
            logger.error("the watch over {}: {}", self._model, error)
            return None


def _serves(now: ModelGeneration, version: str) -> bool:
    return now.serving is not None and now.serving.version == version


def _is_about_to_serve(now: ModelGeneration, version: str) -> bool:
    return now.preparing is not None and now.preparing.version == version and not _serves(now, version)
