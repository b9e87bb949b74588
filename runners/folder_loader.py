"""How a version gets from its folder into memory, and out of it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from bunriwiki.artifacts.manifest import DamagedArtifactError
from bunriwiki.model_store.generation_watcher import Candidate
from runners.throttle import Rest, no_rest


class Warmable(Protocol):
    """What a model's class has to have for this: it is loaded when it is made."""

    @property
    def version(self) -> str: ...

    def warm_up(self, rest: Rest, /) -> None: ...


ServableT = TypeVar("ServableT", bound=Warmable)


class FolderLoader(Generic[ServableT]):
    """Loads a version from its folder (a `bunriwiki.lifecycle.loader.Loader`), taking `rest` between pieces of the work."""

    def __init__(self, open_version: Callable[[Path], ServableT], candidate: Candidate, rest: Rest = no_rest) -> None:
        self._open = open_version
        self._candidate = candidate
        self._rest = rest
        self._servable: ServableT | None = None

    def load(self) -> None:
        servable = self._open(self._candidate.folder)
        if servable.version != self._candidate.version:
            raise DamagedArtifactError(f"{self._candidate.folder} holds {servable.version}")
        self._servable = servable

    def warm_up(self) -> None:
        self.servable.warm_up(self._rest)

    def unload(self) -> None:
        self._servable = None
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # or glibc would keep what was freed

    @property
    def servable(self) -> ServableT:
        if self._servable is None:
            raise RuntimeError(f"{self._candidate.folder} is not loaded")
        return self._servable
