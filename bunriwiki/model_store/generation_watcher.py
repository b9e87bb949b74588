"""Watches `generation.yaml` for the workers, and resolves what it says to folders."""

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
from bunriwiki.model_store.names import FALLBACK

NOTHING = b""  # stands for the text of a file that never existed
POLL = 1.0  # seconds between two reads without an event: inotify does not see changes that other hosts make


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that could serve, and its folder."""

    version: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Aspired:
    """The desired state of one model.

    `serving` is the version that the file names, or the fallback version if it names none; `generation` counts its changes.
    `preparing` should be loaded beside it, since `preparing_since`, and receives live traffic as `canary` says. If `serving`
    cannot be loaded, the first of `instead` that can be loaded serves.
    """

    generation: int
    serving: Candidate
    preparing: Candidate | None
    preparing_since: datetime | None
    instead: tuple[Candidate, ...]
    canary: Canary | None


class GenerationWatcher:
    """Keeps the content of `generation.yaml` in memory. While the file is missing or not valid, the last valid content stays.

    `fallbacks` has the folder of each model's fallback version. Raises DamagedArtifactError if a folder has no manifest.
    """

    def __init__(self, layout: Layout, fallbacks: Mapping[str, Path]) -> None:
        self._layout = layout
        self._fallbacks = {model: Candidate(Manifest.read(folder).version, folder) for model, folder in fallbacks.items()}
        self._text = NOTHING
        self._generations = Generations()
        self._aspired = {model: self._resolve(model) for model in fallbacks}  # resolved once: it is read for every batch
        self._refreshing = threading.Lock()
        self._stopping = threading.Event()
        self.refresh()

    def fallback(self, model: str) -> Path:
        """The folder of the fallback version."""
        return self._fallbacks[model].folder

    def fallback_version(self, model: str) -> str:
        """The name of the fallback version."""
        return self._fallbacks[model].version

    def aspired(self, model: str) -> Aspired:
        """The desired state of `model`, as of the last refresh."""
        return self._aspired[model]

    def folder(self, model: str, version: str) -> Path:
        """The folder of a version."""
        fallback = self._fallbacks[model]
        return fallback.folder if version == fallback.version else self._layout.version(model, version)

    def published(self, model: str) -> list[str]:
        """The versions of `model` in the store, in no order."""
        return self._layout.versions(model)

    @property
    def generations(self) -> Generations:
        """The whole file, as of the last refresh."""
        return self._generations

    def refresh(self) -> bool:
        """Read the file now; returns whether its content changed."""
        with self._refreshing:
            try:
                text = self._layout.generation.read_bytes()
            except FileNotFoundError:
                if self._text != NOTHING:  # it is never deleted, so the volume is not mounted
                    logger.error("{} is missing; its last content stays in effect", self._layout.generation)
                return False
            except OSError as error:
                logger.error("{} cannot be read; its last content stays in effect: {}", self._layout.generation, error)
                return False
            if text == self._text:
                return False
            self._text = text
            try:
                self._generations = Generations.parse(text)
            except GenerationError as error:
                logger.error("{}. Its last content stays in effect", error)
                return False
            self._aspired = {model: self._resolve(model) for model in self._fallbacks}
            return True

    def start(self, on_change: Callable[[], None]) -> None:
        """Refresh whenever the file is replaced, and once a second, in a thread that calls `on_change` after each change."""
        threading.Thread(target=self._watch, args=(on_change,), name="generation watcher", daemon=True).start()

    def stop(self) -> None:
        """Stop watching; returns at once."""
        self._stopping.set()

    def _resolve(self, model: str) -> Aspired:
        generation = self._generations.of(model)
        fallback = self._fallbacks[model]

        def candidate(version: str) -> Candidate:
            return fallback if version == FALLBACK else Candidate(version, self._layout.version(model, version))

        serving = candidate(generation.serving.version) if generation.serving else fallback
        previous = (candidate(generation.previous.version),) if generation.previous else ()
        return Aspired(
            generation=generation.generation,
            serving=serving,
            preparing=candidate(generation.preparing.version) if generation.preparing else None,
            preparing_since=generation.preparing.since if generation.preparing else None,
            instead=tuple(other for other in dict.fromkeys((*previous, fallback)) if other.version != serving.version),
            canary=generation.canary,
        )

    def _watch(self, on_change: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                # Watch the folder: the file is replaced, and a watch on it would stay with the old inode.
                for _ in watch(
                    self._layout.root,
                    watch_filter=self._is_the_file,
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
            except Exception as error:  # no folder yet, or no inotify watches left: polling is enough
                logger.debug("{} cannot be watched: {}", self._layout.root, error)
                self._stopping.wait(POLL)
                if self.refresh():
                    on_change()

    def _is_the_file(self, _: Change, path: str) -> bool:
        return Path(path).name == self._layout.generation.name
