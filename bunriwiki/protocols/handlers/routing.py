"""Which version of a model answers the next batch."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from bunriwiki.model_store.generation_watcher import GenerationWatcher

PATIENCE_SECONDS = 5.0  # for a worker to load the serving version, before batches accept another version


class Route:
    """Chooses a version for each batch of one model, by the generation file, and another if the runner does not have it.

    A batch is answered by the version that it names: the serving version, or for a share of the batches a canary. A batch waits
    up to `PATIENCE_SECONDS` for a worker that has the serving version (a worker that lags behind is being replaced). If no
    worker has had it for so long, batches take the version that the runner offers, until a worker has it again. No batch waits
    for a canary.

    `chance` draws a number, 0..1.
    """

    def __init__(self, model: str, generation_watcher: GenerationWatcher, chance: Callable[[], float] = random.random) -> None:
        self._model = model
        self._generation_watcher = generation_watcher
        self._chance = chance
        self._missing: tuple[str, float] | None = None  # the version that workers do not have, and since when (monotonic)

    def version(self) -> str:
        """The serving version."""
        return self._generation_watcher.aspired(self._model).serving.version

    def draw(self) -> str:
        """The version for the next batch."""
        return self._candidate(shadow=False) or self.version()

    def shadow(self) -> str | None:
        """The version that gets a copy of the batch that was just answered; None for most batches."""
        return self._candidate(shadow=True)

    def loaded(self) -> set[str]:
        """The versions that runners may have in memory."""
        aspired = self._generation_watcher.aspired(self._model)
        return {version.version for version in (aspired.serving, aspired.preparing, *aspired.instead) if version}

    def answered(self, version: str) -> None:
        """A worker has answered with `version`."""
        if self._missing is not None and self._missing[0] == version:
            self._missing = None

    def _candidate(self, *, shadow: bool) -> str | None:
        aspired = self._generation_watcher.aspired(self._model)
        if aspired.canary is None or aspired.preparing is None or aspired.canary.shadow != shadow:
            return None
        return aspired.preparing.version if self._chance() < aspired.canary.share else None

    async def instead(self, offered: str) -> str:
        """The version for the next try of a batch whose version a worker did not have; it has `offered` ("" for none)."""
        await asyncio.to_thread(self._generation_watcher.refresh)  # perhaps this process lags behind
        serving, now = self.version(), time.monotonic()
        if self._missing is None or self._missing[0] != serving:
            self._missing = (serving, now)
        patient = now - self._missing[1] < PATIENCE_SECONDS
        return serving if patient or not offered else offered
