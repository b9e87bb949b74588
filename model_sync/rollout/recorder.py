"""Records in the store's history how rollouts ended. The sidecar, the one writer of the history, runs it."""

from __future__ import annotations

import threading

from loguru import logger

from bunriwiki.model_store.writer import StoreWriter
from model_sync.rollout.state import Rollout, State, StateError

POLL_SECONDS = 2.0
ENDED = ("rolled_out", "rollout_failed")  # the kinds of the events
ALL_MODELS = "all"  # the model of an event that concerns all of them, or none: an image without a version of a registry


class RolloutRecorder:
    """Adds an event per version for each rollout that ended, once, also if the sidecar did not run then."""

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer
        self._recorded: int | None = None

    def run(self, stopping: threading.Event) -> None:
        """Record until `stopping` is set. Blocks."""
        while not stopping.wait(POLL_SECONDS):
            try:
                self.record()
            except (StateError, OSError) as error:
                logger.error("the result of a rollout cannot be recorded: {}", error)

    def record(self) -> None:
        """Record what is not recorded yet. Raises StateError, OSError."""
        results = State.read(self._writer.layout.rollout_state).results
        if not results or (self._recorded is not None and self._recorded >= results[-1].number):
            return
        recorded = max((event.rollout or 0 for event in self._writer.history.read() if event.kind in ENDED), default=0)
        for rollout in results:
            if rollout.number > recorded:
                self._record(rollout)
        self._recorded = results[-1].number

    def _record(self, rollout: Rollout) -> None:
        seconds = {"rollout": round((rollout.ended - rollout.began).total_seconds(), 1)} if rollout.ended else {}
        if rollout.ended and rollout.failed_at:
            seconds["going_back"] = round((rollout.ended - rollout.failed_at).total_seconds(), 1)
        for model, version in rollout.new.versions.items() or [(ALL_MODELS, None)]:
            self._writer.record(
                "rolled_out" if rollout.phase == "done" else "rollout_failed",
                model,
                version=version,
                source=rollout.new.name,
                rollout=rollout.number,
                reason=rollout.reason,
                cause=rollout.cause,
                seconds=seconds,
            )
