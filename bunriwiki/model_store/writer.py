"""The writer: everything but heartbeats and the sidecar's own state is changed through it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.files import sync_folder
from bunriwiki.model_store.generation import Canary, Generations, ModelGeneration, Target, Trigger
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.model_store.history import ACTING_TOKEN, Event, History, Kind
from bunriwiki.model_store.layout import MODEL_YAML, Layout
from bunriwiki.model_store.lock import writer_lock
from bunriwiki.model_store.publication import Progress, publish
from bunriwiki.model_store.quarantine import Quarantine, Quarantined
from bunriwiki.model_store.recovery import recover
from bunriwiki.model_store.retention import KEPT, removable


class NotPublishedError(Exception):
    """The version must not serve: it is not in the store, or it is in quarantine."""


class SupersededError(Exception):
    """Another version was requested meanwhile."""


class StoreWriter:
    """Changes the store; made by `open_writer`. Safe to use from many threads: changes of `generation.yaml` are serialised.

    The newest `keep` versions of each model are kept, and those that are needed (see `retention`). Every method that changes
    something raises OSError if the disk is full or the store cannot be written to.
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
        """Copy the version in `folder` into the store (see `publication.publish`), and delete old versions.

        `seconds` is the duration of each phase of its import, for the history.
        """
        manifest = publish(self.layout, folder, source, progress, digest_there=digest_there, forced_past=forced_past)
        self.record_publication(manifest.model, manifest.version, forced_past, seconds=seconds, source=source, by=by)
        progress("recorded")
        self.collect_garbage()
        return manifest

    def generations(self) -> Generations:
        """The content of `generation.yaml`. Raises GenerationError."""
        return Generations.read(self.layout.generation)

    def change(self, how: Callable[[Generations], Generations]) -> Generations:
        """Replace the content of `generation.yaml` by `how(content)`, and return it. Raises GenerationError."""
        with self._changing:
            new = how(self.generations())
            new.write(self.layout.generation)
            return new

    def prepare(self, model: str, target: Target, instead_of: str | None = None) -> None:
        """Have every worker load `target` beside the serving version, which must be `instead_of` if that is given.

        Raises NotPublishedError if the version is not in the store or is in quarantine; SupersededError if another version than
        `instead_of` serves.
        """

        def prepared(old: Generations) -> Generations:
            serving = old.of(model).serving
            if instead_of and not (serving and serving.version == instead_of):
                raise SupersededError(f"{model}:{instead_of} does not serve any more")
            if not self.layout.can_serve(model, target.version):
                raise NotPublishedError(f"{model}:{target.version} is not in the store")
            if bad := self.quarantine.find(model, target.version):
                raise NotPublishedError(f"{model}:{target.version} is in quarantine: {bad.reason}")
            return old.prepare(model, target)

        self.change(prepared)

    def start_canary(self, model: str, target: Target, canary: Canary) -> None:
        """Send live traffic to `target`, which is being prepared. Raises SupersededError if it is not (any more)."""

        def started(old: Generations) -> Generations:
            if old.of(model).preparing != target:
                raise SupersededError(f"{model}:{target.version} is no longer wanted")
            return old.start_canary(model, canary)

        self.change(started)

    def abandon(self, model: str, target: Target, reason: str) -> None:
        """Stop preparing `target`, for `reason`. If another version is being prepared already, that goes on."""
        self.change(lambda old: old.prepare(model, None) if old.of(model).preparing == target else old)
        self.record("abandoned", model, version=target.version, source=target.source, by=target.by, reason=reason)

    def activate(self, model: str, target: Target, workers: int, *, lifts_holds: bool = False) -> None:
        """Have `target` serve from now on; so many `workers` have it prepared.

        With `lifts_holds`, no version is held, paused or cancelled any more. Raises SupersededError if `target` is not (any
        more) the version that is being prepared.
        """

        def changed(old: Generations) -> Generations:
            now = old.of(model)
            if now.preparing != target:
                raise SupersededError(f"{model}:{target.version} is no longer wanted")
            left = now.serving.version if now.serving else ""
            good = target.by != "monitor" and left not in now.held and not (left and self.quarantine.find(model, left))
            activated = target.model_copy(update={"since": datetime.now(UTC)})
            return old.activate(model, activated, outgoing_was_good=good, lifts_holds=lifts_holds)

        self.record_activation(model, self.change(changed).of(model), workers=workers)

    def put_in_quarantine(self, entry: Quarantined, by: Trigger, *, cause: str | None = None) -> None:
        """Keep a version from going live. `cause` is the check that it failed, as a label of the metrics."""
        self.quarantine.add(entry)
        self.record("quarantined", entry.model, version=entry.version, by=by, reason=entry.reason, cause=cause)

    def release(self, model: str, version: str, by: Trigger) -> bool:
        """Take a version out of quarantine; returns whether it was there."""
        was_there = self.quarantine.release(model, version)
        if was_there:
            self.record("released", model, version=version, by=by)
        return was_there

    def collect_garbage(self) -> list[tuple[str, str]]:
        """Delete the versions that are neither new nor needed (see `retention`); returns their models and versions."""
        removed = []
        for model in self.layout.published():
            with self._changing:  # no version is promoted between the decision and the removal
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
        """Add an event to the history."""
        with self._changing:
            self._append(kind, model, **details)

    def record_publication(self, model: str, version: str, forced_past: str | None, **details: Any) -> None:
        """Add the publication of a version to the history, unless it is there already. `forced_past`: see `publish`."""
        kinds = [
            event.kind
            for event in self.history.read(model)
            if event.version == version and event.kind in ("published", "removed")
        ]
        if kinds[-1:] == ["published"]:
            return
        if forced_past:
            details |= {"forced": True, "reason": forced_past}
        self.record("published", model, version=version, **details)

    def record_activation(self, model: str, new: ModelGeneration, **details: Any) -> None:
        """Add to the history that the generation `new` began to serve."""
        if new.serving:
            previous = new.previous.version if new.previous else None
            details |= {"version": new.serving.version, "source": new.serving.source, "by": new.serving.by}
            self.record("activated", model, generation=new.generation, previous=previous, **details)

    def _append(self, kind: Kind, model: str, **details: Any) -> None:
        token = ACTING_TOKEN.get() if details.get("by") == "operator" else None
        self.history.append(Event(at=datetime.now(UTC), kind=kind, model=model, token=token, **details))

    def _published_at(self, model: str, version: str) -> int:
        return (self.layout.version(model, version) / MODEL_YAML).stat().st_mtime_ns


@contextmanager
def open_writer(root: Path, who: str, keep: int = KEPT) -> Iterator[StoreWriter]:
    """The writer of the store at `root`, which is created if needed. Raises StoreLockedError, GenerationError, OSError."""
    layout = Layout(root)
    layout.create()
    with writer_lock(layout.lock, who):
        writer = StoreWriter(layout, keep)
        recover(writer)
        yield writer
