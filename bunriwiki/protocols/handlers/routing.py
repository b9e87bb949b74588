"""Which version of a model the next batch is to be answered by."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from bunriwiki.model_store.generation_watcher import GenerationWatcher

PATIENCE = 5.0  # seconds that workers have to come by the version that the file names, before another one will do


class Route:
    """What the generation file says of one model, and what to do where the runner does not have it.

    The version that a batch is stamped with is the one that answers it: the one that serves, or for a share of the batches a
    canary. A batch waits up to `PATIENCE` seconds for a worker that has the file's version (one that lags behind is being
    replaced). When no worker has had it for so long, a batch takes what the runner offers, until one has it again. No batch
    waits for a canary.

    `chance` draws a number, 0..1.
    """

    def __init__(self, model: str, generation_watcher: GenerationWatcher, chance: Callable[[], float] = random.random) -> None:
        self._model = model
        self._generation_watcher = generation_watcher
        self._chance = chance
        self._missing: tuple[str, float] | None = None  # the version that workers do not have, and since when

    def version(self) -> str:
        """The version that serves."""
        return self._generation_watcher.aspired(self._model).serving.version

    def draw(self) -> str:
        """The version to stamp the next batch with."""
        return self._tried(shadow=False) or self.version()

    def shadow(self) -> str | None:
        """The version that is to get a copy of the batch that was just answered; None for most."""
        return self._tried(shadow=True)

    def loaded(self) -> set[str]:
        """The versions that runners may have in memory."""
        aspired = self._generation_watcher.aspired(self._model)
        return {one.version for one in (aspired.serving, aspired.preparing, *aspired.instead) if one}

    def answered(self, version: str) -> None:
        """A worker has answered with `version`."""
        if self._missing is not None and self._missing[0] == version:
            self._missing = None

    def _tried(self, *, shadow: bool) -> str | None:
        aspired = self._generation_watcher.aspired(self._model)
        if aspired.canary is None or aspired.preparing is None or aspired.canary.shadow != shadow:
            return None
        return aspired.preparing.version if self._chance() < aspired.canary.share else None

    async def instead(self, offered: str) -> str:
        """The version to ask for next, where a worker did not have the one asked for, and has `offered`."""
        await asyncio.to_thread(self._generation_watcher.look)  # perhaps this process is the one that is behind
        should, now = self.version(), time.monotonic()
        if self._missing is None or self._missing[0] != should:
            self._missing = (should, now)
        patient = now - self._missing[1] < PATIENCE
        return should if patient or not offered else offered
