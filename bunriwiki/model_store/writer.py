"""The one writer: all that changes the store, but heartbeats, passes through here."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.files import sync_folder
from bunriwiki.model_store.generation import Canary, GenerationError, Generations, ModelGeneration, Target, Trigger
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.model_store.history import Event, History, Kind
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.lock import writer_lock
from bunriwiki.model_store.publication import MODEL_YAML, Progress, forced_past, publish
from bunriwiki.model_store.quarantine import Quarantine, Quarantined
from bunriwiki.model_store.retention import KEPT, removable


class NotPublishedError(Exception):
    """The version cannot serve: it is not in the store, or it is in quarantine."""


class SupersededError(Exception):
    """Somebody wanted another version meanwhile."""


class StoreWriter:
    """Made by `open_writer`. Safe to use from many threads; what they do to `generation.yaml` is done one after the other.

    Of every model the newest `keep` versions stay, and what is needed.
    """

    def __init__(self, layout: Layout, keep: int) -> None:
        self.layout = layout
        self._keep = keep
        self.heartbeats = Heartbeats(layout.run)
        self.history = History(layout.history)
        self.quarantine = Quarantine(layout.quarantine)
        self._changing = threading.Lock()

    def publish(
        self,
        folder: Path,
        source: str,
        by: Trigger,
        progress: Progress = lambda _: None,
        *,
        digest_there: str | None = None,
        forced_past: str | None = None,
        seconds: dict[str, float] | None = None,
    ) -> Manifest:
        """Bring the version in `folder` into the store (see `publication.publish`), to serve later. An old one may go.

        `seconds` is what each phase of its import took, for the history.
        """
        manifest = publish(self.layout, folder, source, progress, digest_there=digest_there, forced_past=forced_past)
        if not self._is_recorded(manifest.model, manifest.version):
            details = _forced(forced_past) | {"seconds": seconds, "source": source, "by": by}
            self.record("published", manifest.model, version=manifest.version, **details)
        progress("recorded")
        self.collect_garbage()
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

    def prepare(self, model: str, target: Target, instead_of: str | None = None) -> None:
        """Have every worker load `target` beside what serves: beside `instead_of`, where that is given.

        Raises NotPublishedError when it is not in the store, or in quarantine; SupersededError when another version serves.
        """

        def prepared(old: Generations) -> Generations:
            serving = old.of(model).serving
            if instead_of and not (serving and serving.version == instead_of):
                raise SupersededError(f"{model}:{instead_of} does not serve any more")
            if not self.layout.version(model, target.version).is_dir():
                raise NotPublishedError(f"{model}:{target.version} is not in the store")
            if bad := self.quarantine.find(model, target.version):
                raise NotPublishedError(f"{model}:{target.version} is in quarantine: {bad.reason}")
            return old.prepare(model, target)

        self.change(prepared)

    def start_canary(self, model: str, target: Target, canary: Canary) -> None:
        """Have `target`, which is being prepared, meet live traffic. Raises SupersededError when it no longer is."""

        def tried(old: Generations) -> Generations:
            if old.of(model).preparing != target:
                raise SupersededError(f"{model}:{target.version} is no longer wanted")
            return old.start_canary(model, canary)

        self.change(tried)

    def abandon(self, model: str, target: Target, reason: str) -> None:
        """Have nobody load `target` any more, unless another version is being prepared already."""
        self.change(lambda old: old.prepare(model, None) if old.of(model).preparing == target else old)
        self.record("abandoned", model, version=target.version, source=target.source, by=target.by, reason=reason)

    def activate(self, model: str, target: Target, workers: int) -> None:
        """Have `target` serve from now on; `workers` are prepared for it.

        Raises SupersededError when it is not (any more) what is being prepared.
        """

        def activated(old: Generations) -> Generations:
            now = old.of(model)
            if now.preparing != target:
                raise SupersededError(f"{model}:{target.version} is no longer wanted")
            left = now.serving.version if now.serving else ""
            good = target.by != "monitor" and left not in now.held and not (left and self.quarantine.find(model, left))
            return old.activate(model, target.model_copy(update={"since": datetime.now(UTC)}), outgoing_was_good=good)

        self._record_activation(model, self.change(activated).of(model), workers=workers)

    def pin(self, model: str, *, pinned: bool, by: Trigger) -> None:
        """Hold `model` at the version that serves, against polling; or no longer."""
        self.change(lambda old: old.pin(model, pinned=pinned))
        self.record("pinned" if pinned else "unpinned", model, by=by)

    def put_in_quarantine(self, one: Quarantined, by: Trigger) -> None:
        """Keep a version from going live."""
        self.quarantine.add(one)
        self.record("quarantined", one.model, version=one.version, by=by, reason=one.reason)

    def release(self, model: str, version: str, by: Trigger) -> bool:
        """Let a version be tried again; whether it was in quarantine."""
        was_there = self.quarantine.release(model, version)
        if was_there:
            self.record("released", model, version=version, by=by)
        return was_there

    def collect_garbage(self) -> list[tuple[str, str]]:
        """Delete all but the newest versions of every model and what is needed (see `retention`); what was deleted."""
        removed = []
        for model in self.layout.published():
            with self._changing:  # nothing becomes aspired, or goes, between the look and the removal
                ordered = sorted(self.layout.versions(model), key=lambda version: self._published_at(model, version))
                generation = self.generations().of(model)
                for version in removable(ordered, generation, self.heartbeats.alive(), model, self._keep):
                    self.layout.version(model, version).rename(self.layout.staging / f"removed-{model}-{version}")
                    sync_folder(self.layout.models / model)
                    self._append("removed", model, version=version)
                    removed.append((model, version))
        for model, version in removed:
            shutil.rmtree(self.layout.staging / f"removed-{model}-{version}", ignore_errors=True)
        self.heartbeats.tidy()
        return removed

    def record(self, kind: Kind, model: str, **details: Any) -> None:
        """Add to the history."""
        with self._changing:
            self._append(kind, model, **details)

    def recover(self) -> None:
        """Tidy what a dead writer left, and record the last step that it did not come to record.

        Raises GenerationError when the generation file is lost: to begin anew would take every model back to its fallback.
        """
        if not self.layout.generation.exists() and any(event.kind == "activated" for event in self.history.read()):
            raise GenerationError(
                f"{self.layout.generation} is missing, though versions have served. Restore it, or delete "
                f"{self.layout.history} to begin anew with the fallback versions"
            )
        for leftover in self.layout.staging.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        halves = (
            *self.layout.root.glob(".*.yaml.*"),
            *self.layout.root.glob(".sync.json.*"),
            *self.layout.quarantine.glob("*/.*.yaml.*"),
        )
        for leftover in halves:
            leftover.unlink(missing_ok=True)
        for folder in self.layout.models.iterdir():
            if folder.is_dir() and not self.layout.versions(folder.name):
                with contextlib.suppress(OSError):  # BentoML may have left a file there
                    folder.rmdir()
        self.heartbeats.tidy()
        for model, versions in self.layout.published().items():
            for version in versions:
                if not self._is_recorded(model, version):
                    details = {"reason": "found in the store"} | _forced(forced_past(self.layout.version(model, version)))
                    self.record("published", model, version=version, **details)
        for model, generation in self.generations().models.items():
            self._recover_generation(model, generation)

    def _recover_generation(self, model: str, generation: ModelGeneration) -> None:
        recorded = max((event.generation or 0 for event in self.history.read(model)), default=0)
        if generation.serving and recorded < generation.generation:
            self._record_activation(model, generation, reason="found in generation.yaml")
        if generation.preparing:
            self.change(lambda old: old.prepare(model, None))
            reason = "its writer ended before it was prepared"
            self.record("abandoned", model, version=generation.preparing.version, reason=reason)
        if generation.serving and generation.serving.version in generation.held:  # it was not left after all
            held = [version for version in generation.held if version != generation.serving.version]
            self.change(lambda old: old.hold(model, *held))

    def _record_activation(self, model: str, new: ModelGeneration, **details: Any) -> None:
        if new.serving:
            previous = new.previous.version if new.previous else None
            details |= {"version": new.serving.version, "source": new.serving.source, "by": new.serving.by}
            self.record("activated", model, generation=new.generation, previous=previous, **details)

    def _append(self, kind: Kind, model: str, **details: Any) -> None:
        self.history.append(Event(at=datetime.now(UTC), kind=kind, model=model, **details))

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


def _forced(past: str | None) -> dict[str, Any]:
    """What the history says of a version that a person forced past some gates."""
    return {"forced": True, "reason": past} if past else {}


@contextmanager
def open_writer(root: Path, who: str, keep: int = KEPT) -> Iterator[StoreWriter]:
    """The writer of the store at `root`, made where there is none. Raises StoreLockedError, GenerationError, OSError."""
    layout = Layout(root)
    layout.create()
    with writer_lock(layout.lock, who):
        writer = StoreWriter(layout, keep)
        writer.recover()
        yield writer
