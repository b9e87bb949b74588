"""What the sidecar says of itself: kept here, written to the store's `sync.json`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loguru import logger

from bunriwiki.model_store.sync_state import EVERY, ModelSync, SyncState
from model_sync.syncing.requests import Outcome


class Report:
    """Safe to use from many threads. `sources` says for each model where it comes from."""

    def __init__(self, path: Path, sources: Mapping[str, str]) -> None:
        self._path = path
        self._since = datetime.now(UTC)
        self._models = {model: ModelSync(source=source) for model, source in sources.items()}
        self._others: dict[str, Callable[[], str | None]] = {}
        self._changing = threading.Lock()
        self._ended = False
        self._mute = False

    def state(self) -> SyncState:
        """All of it."""
        with self._changing:
            problems = [f"{name}: {problem}" for name, tell in self._others.items() if (problem := tell())]
            return SyncState(since=self._since, at=time.time(), models=dict(self._models), problems=problems, ended=self._ended)

    def seconds(self, model: str) -> dict[str, float]:
        """What each phase of the import under way, or of the last one, took."""
        return dict(self._models[model].seconds)

    def begin(self, model: str) -> None:
        """An import of `model` begins."""
        self._update(model, seconds={}, findings=[])

    @contextmanager
    def phase(self, model: str, name: str) -> Iterator[None]:
        """What is done within is this phase of the import."""
        started = time.monotonic()
        self._update(model, phase=name, phase_since=datetime.now(UTC), phase_share=None)
        try:
            yield
        finally:
            self.took(model, name, time.monotonic() - started)
            self._update(model, phase=None, phase_since=None, phase_share=None)

    def took(self, model: str, name: str, seconds: float) -> None:
        """A phase, or a part of one, is over."""
        self._update(model, seconds={**self._models[model].seconds, name: round(seconds, 2)})
        logger.info("{}: {} took {:.1f} s", model, name, seconds)

    def share(self, model: str, share: float) -> None:
        """How much of the present phase is done, 0..1."""
        if share - (self._models[model].phase_share or 0) >= 0.01:
            self._update(model, phase_share=round(share, 3))

    def found(self, model: str, sentence: str) -> None:
        """What a gate found."""
        self._update(model, findings=[*self._models[model].findings, sentence])

    def rollout(self, model: str, sentence: str) -> None:
        """What the watch over a version sees."""
        self._update(model, rollout=sentence)

    def ended(self, outcome: Outcome) -> None:
        """A look ended."""
        before = self._models[outcome.model]
        self._update(
            outcome.model,
            synced_at=datetime.now(UTC),
            status=outcome.status,
            version=outcome.version,
            reason=outcome.reason,
        )
        if (before.status, before.version, before.reason) != (outcome.status, outcome.version, outcome.reason):
            level = "WARNING" if outcome.status in ("rejected", "unreachable", "failed") else "INFO"
            logger.log(
                level, "{} {}: {}{}", outcome.model, outcome.version or "", outcome.status,
                f": {outcome.reason}" if outcome.reason else "",
            )  # fmt: skip

    def add_problem_source(self, name: str, tell: Callable[[], str | None]) -> None:
        """From now on `tell` says what is wrong with `name`, a queue, say; None when nothing is."""
        self._others[name] = tell

    def keep_writing(self, stopping: threading.Event) -> None:
        """Say that the sidecar lives, until it ends. Blocks."""
        while not stopping.wait(EVERY):
            self.write()

    def end(self) -> None:
        """Say that the sidecar ends."""
        self._ended = True
        self.write()

    def _update(self, model: str, **fields: Any) -> None:
        with self._changing:
            self._models[model] = self._models[model].model_copy(update=fields)
        self.write()

    def write(self) -> None:
        """Say how the sidecar is."""
        try:
            self.state().write(self._path)
        except OSError as error:  # a full disk must not keep a version from being rejected, or served
            if not self._mute:
                logger.error("the sidecar cannot say how it is: {}", error)
            self._mute = True
        else:
            self._mute = False
