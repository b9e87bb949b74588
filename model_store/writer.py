"""The one writer: all that changes the store, but heartbeats, passes through here."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifacts.manifest import Manifest
from model_store.files import remove_tree
from model_store.generation import Asker, Generations, ModelGeneration, Target
from model_store.heartbeats import Heartbeats
from model_store.history import Event, History, Kind
from model_store.layout import Layout
from model_store.lock import writer_lock
from model_store.publication import MODEL_YAML, Progress, publish
from model_store.quarantine import Quarantine, Quarantined
from model_store.retention import KEPT, removable


class StoreWriter:
    """Made by `open_writer`. Safe to use from many threads; what they do to `generation.yaml` is done one after the other."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.heartbeats = Heartbeats(layout.run)
        self.history = History(layout.history)
        self.quarantine = Quarantine(layout.quarantine)
        self._changing = threading.Lock()

    def publish(self, folder: Path, source: str, by: Asker, progress: Progress = lambda _: None) -> Manifest:
        """Bring the version in `folder` into the store (see `publication.publish`), where it does not serve yet."""
        manifest = publish(self.layout, folder, source, progress)
        if not self._is_recorded(manifest.model, manifest.version):
            self.record("published", manifest.model, version=manifest.version, source=source, by=by)
        progress("recorded")
        return manifest

    def generations(self) -> Generations:
        """What is aspired now. Raises GenerationError."""
        return Generations.read(self.layout.generation)

    def change(self, how: Callable[[Generations], Generations]) -> Generations:
        """Replace `generation.yaml` by what `how` makes of it; the new one. Raises GenerationError."""
        with self._changing:
            new = how(self.generations())
            new.write(self.layout.generation)
            return new

    def flip(self, model: str, target: Target, workers: int) -> None:
        """Have `target` serve from now on; `workers` are prepared for it."""
        target = target.model_copy(update={"since": datetime.now(UTC)})
        new = self.change(lambda old: old.flip(model, target))
        self._record_flip(model, new.of(model), workers=workers)

    def pin(self, model: str, *, pinned: bool, by: Asker) -> None:
        """Hold `model` at the version that serves, against polling; or no longer."""
        self.change(lambda old: old.pin(model, pinned=pinned))
        self.record("pinned" if pinned else "unpinned", model, by=by)

    def put_in_quarantine(self, one: Quarantined, by: Asker) -> None:
        """Keep a version from going live."""
        self.quarantine.add(one)
        self.record("quarantined", one.model, version=one.version, by=by, reason=one.reason)

    def release(self, model: str, version: str, by: Asker) -> bool:
        """Let a version be tried again; whether it was in quarantine."""
        was_there = self.quarantine.release(model, version)
        if was_there:
            self.record("released", model, version=version, by=by)
        return was_there

    def collect_garbage(self, keep: int = KEPT) -> list[tuple[str, str]]:
        """Delete all but the newest `keep` versions of every model and what is needed (see `retention`); what was deleted."""
        removed = []
        for model in self.layout.published():
            ordered = sorted(self.layout.versions(model), key=lambda version: self._published_at(model, version))
            with self._changing:  # nothing becomes aspired between the look and the removal
                generation = self.generations().of(model)
                for version in removable(ordered, generation, self.heartbeats.alive(), model, keep):
                    remove_tree(self.layout.version(model, version), self.layout.staging / f"removed-{model}-{version}")
                    removed.append((model, version))
        for model, version in removed:
            self.record("removed", model, version=version)
        return removed

    def record(self, kind: Kind, model: str, **details: Any) -> None:
        """Add to the history."""
        with self._changing:
            self.history.append(Event(at=datetime.now(UTC), kind=kind, model=model, **details))

    def recover(self) -> None:
        """Tidy what a dead writer left, and record the last step that it did not come to record."""
        for leftover in self.layout.staging.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in (*self.layout.root.glob(".*"), *self.layout.quarantine.rglob(".*")):
            leftover.unlink(missing_ok=True)  # a file that was to replace another
        for folder in self.layout.models.iterdir():
            if folder.is_dir() and not self.layout.versions(folder.name):
                folder.rmdir()
        self.heartbeats.tidy()
        for model, versions in self.layout.published().items():
            for version in versions:
                if not self._is_recorded(model, version):
                    self.record("published", model, version=version, reason="found in the store")
        for model, generation in self.generations().models.items():
            self._recover_generation(model, generation)

    def _recover_generation(self, model: str, generation: ModelGeneration) -> None:
        recorded = max((event.generation or 0 for event in self.history.read(model)), default=0)
        if generation.serving and recorded < generation.generation:
            self._record_flip(model, generation, reason="found in generation.yaml")
        if generation.preparing:
            self.change(lambda old: old.prepare(model, None))
            reason = "its writer ended before it was prepared"
            self.record("abandoned", model, version=generation.preparing.version, reason=reason)

    def _record_flip(self, model: str, new: ModelGeneration, **details: Any) -> None:
        if new.serving:
            previous = new.previous.version if new.previous else None
            details |= {"version": new.serving.version, "source": new.serving.source, "by": new.serving.by}
            self.record("flipped", model, generation=new.generation, previous=previous, **details)

    def _is_recorded(self, model: str, version: str) -> bool:
        """Whether the history has the publication of this very version, and not its removal after that."""
        kinds = [
            event.kind
            for event in self.history.read(model)
            if event.version == version and event.kind in ("published", "removed")
        ]
        return kinds[-1:] == ["published"]

    def _published_at(self, model: str, version: str) -> int:
        return (self.layout.version(model, version) / MODEL_YAML).stat().st_mtime_ns


@contextmanager
def open_writer(root: Path, who: str) -> Iterator[StoreWriter]:
    """The writer of the store at `root`, made where there is none. Raises StoreLockedError, GenerationError, OSError."""
    layout = Layout(root)
    layout.create()
    with writer_lock(layout.lock, who):
        writer = StoreWriter(layout)
        writer.recover()
        yield writer
