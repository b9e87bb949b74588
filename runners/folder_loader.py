"""Loads a version from its folder, and frees its memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from bunriwiki.artifacts.manifest import DamagedArtifactError
from bunriwiki.model_store.generation_watcher import Candidate
from bunriwiki.telemetry.process_memory import trim
from runners.servable import Warmable
from runners.throttle import Pause, unthrottled

ServableT = TypeVar("ServableT", bound=Warmable)


class FolderLoader(Generic[ServableT]):
    """Opens `candidate` with `open_version` (implements `bunriwiki.lifecycle.loader.Loader`).

    The warm-up calls `pause` between two pieces of work.
    """

    def __init__(self, open_version: Callable[[Path], ServableT], candidate: Candidate, pause: Pause = unthrottled) -> None:
        self._open = open_version
        self._candidate = candidate
        self._pause = pause
        self._servable: ServableT | None = None

    def load(self) -> None:
        """Raises DamagedArtifactError if the folder holds another version, and whatever `open_version` raises."""
        servable = self._open(self._candidate.folder)
        if servable.version != self._candidate.version:
            raise DamagedArtifactError(f"{self._candidate.folder} holds {servable.version}")
        self._servable = servable

    def warm_up(self) -> None:
        self.servable.warm_up(self._pause)

    def unload(self) -> None:
        self._servable = None
        gc.collect()
        trim()

    @property
    def servable(self) -> ServableT:
        if self._servable is None:
            raise RuntimeError(f"{self._candidate.folder} is not loaded")
        return self._servable
