"""The reader's side of `generation.yaml`: noticing that it was replaced, and what it means for one model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from loguru import logger
from watchfiles import Change, watch

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.generation import Canary, GenerationError, Generations
from bunriwiki.model_store.layout import Layout

NOTHING = b""  # what the file says as long as it was never there
POLL = 1.0  # seconds between two looks where no event comes: inotify does not cross network volumes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that could serve, and where it lies."""

    version: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Aspired:
    """What one model should do.

    `serving` is what the file says, or the fallback model where it says nothing; `generation` counts its changes. `preparing`
    is to be loaded beside it, since `preparing_since`, and meets live traffic as `canary` says. `instead`, in this order, is
    what to serve where `serving` cannot be loaded.
    """

    generation: int
    serving: Candidate
    preparing: Candidate | None
    preparing_since: datetime | None
    instead: tuple[Candidate, ...]
    canary: Canary | None


class GenerationWatcher:
    """Keeps what `generation.yaml` says. One that cannot be read changes nothing: what it said before holds on.

    `fallbacks` has the folder of each model's fallback version. Raises DamagedArtifactError when one has no manifest.
    """

    def __init__(self, layout: Layout, fallbacks: Mapping[str, Path]) -> None:
        self._layout = layout
        self._fallbacks = {model: Candidate(Manifest.read(folder).version, folder) for model, folder in fallbacks.items()}
        self._text = NOTHING
        self._generations = Generations()
        self._aspired = {model: self._resolve(model) for model in fallbacks}  # asked for with every batch
        self._refreshing = threading.Lock()
        self._stopping = threading.Event()
        self.refresh()

    def fallback(self, model: str) -> Path:
        """The folder of the fallback version."""
        return self._fallbacks[model].folder

    def aspired(self, model: str) -> Aspired:
        """What `model` should do, as of the last look."""
        return self._aspired[model]

    def folder(self, model: str, version: str) -> Path:
        """Where a version lies."""
        fallback = self._fallbacks[model]
        return fallback.folder if version == fallback.version else self._layout.version(model, version)

    def published(self, model: str) -> list[str]:
        """The versions of `model` in the store, in no order."""
        return self._layout.versions(model)

    @property
    def generations(self) -> Generations:
        """The whole file, as of the last look."""
        return self._generations

    def refresh(self) -> bool:
        """Read the file now; whether it says something new."""
        with self._refreshing:
            try:
                text = self._layout.generation.read_bytes()
            except FileNotFoundError:
                if self._text != NOTHING:  # nobody deletes it: the volume is not there
                    logger.error("{} is gone, what it said before holds on", self._layout.generation)
                return False
            except OSError as error:
                logger.error("{} cannot be read, what it said before holds on: {}", self._layout.generation, error)
                return False
            if text == self._text:
                return False
            self._text = text
            try:
                self._generations = Generations.parse(text)
            except GenerationError as error:
                logger.error("{}. What it said before holds on", error)
                return False
            self._aspired = {model: self._resolve(model) for model in self._fallbacks}
            return True

    def start(self, on_change: Callable[[], None]) -> None:
        """From now on look whenever the file is replaced, and once a second; `on_change` is called from a thread of its own."""
        threading.Thread(target=self._follow, args=(on_change,), name="follow the generation file", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _resolve(self, model: str) -> Aspired:
        generation = self._generations.of(model)
        fallback = self._fallbacks[model]

        def candidate(version: str) -> Candidate:
            return Candidate(version, self._layout.version(model, version))

        serving = candidate(generation.serving.version) if generation.serving else fallback
        previous = (candidate(generation.previous.version),) if generation.previous else ()
        return Aspired(
            generation=generation.generation,
            serving=serving,
            preparing=candidate(generation.preparing.version) if generation.preparing else None,
            preparing_since=generation.preparing.since if generation.preparing else None,
            instead=tuple(one for one in (*previous, fallback) if one.version != serving.version),
            canary=generation.canary,
        )

    def _follow(self, on_change: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                # The folder, not the file: the file is replaced, and a watch would stay with the old one.
                for _ in watch(
                    self._layout.root,
                    watch_filter=self._concerns_us,
                    recursive=False,
                    debounce=20,
                    step=10,
                    rust_timeout=int(POLL * 1000),
                    yield_on_timeout=True,
                    stop_event=self._stopping,
                    raise_interrupt=False,
                ):
                    if self.refresh():
                        on_change()
            except Exception as error:  # no folder yet, or no watches left on this machine: looking will do
                logger.debug("{} cannot be watched: {}", self._layout.root, error)
                self._stopping.wait(POLL)
                if self.refresh():
                    on_change()

    def _concerns_us(self, _: Change, path: str) -> bool:
        return Path(path).name == self._layout.generation.name
