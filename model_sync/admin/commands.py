"""The operators' commands: the sidecar's API runs them, and without a sidecar the command line does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from bunriwiki.artifacts.manifest import MANIFEST, digest
from bunriwiki.model_store.generation import Generations, ModelGeneration, Trigger
from bunriwiki.model_store.names import FALLBACK, FALLBACK_SOURCE
from bunriwiki.model_store.promotion import CannotLoadError, PromotionError, promote
from bunriwiki.model_store.publication import registry_digest
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.status import folder_size
from bunriwiki.model_store.writer import StoreWriter, SupersededError
from model_sync.admin.exclusive import since, store_errors
from model_sync.admin.image_rollout_commands import ImageRolloutCommands
from model_sync.admin.names import checked_version
from model_sync.admin.results import Cancelled, Collected, Pinned, Removed, RolledBack, Unpinned
from model_sync.admin.rollout_commands import RolloutCommands
from model_sync.errors import CommandError
from model_sync.importing.cancellation import Cancellation
from model_sync.syncing.requests import SyncRequests

TRIES = 3  # of a promotion, while syncs of the model prepare other versions
CANCEL_SECONDS = 10.0  # that a cancelled import may take to end before the command returns


class Commands(RolloutCommands, ImageRolloutCommands):
    """The commands, on the store's writer. Safe to use from many threads; one command per model runs at a time.

    With `syncs`, `unpin` requests a sync of the model. `cancellations` has the imports that can be cancelled, by model. Every
    method raises CommandError, and then nothing has changed.
    """

    def __init__(
        self,
        writer: StoreWriter,
        syncs: SyncRequests | None = None,
        cancellations: Mapping[str, Cancellation] | None = None,
    ) -> None:
        super().__init__(writer)
        self._syncs = syncs
        self._cancellations = cancellations or {}

    def rollback(self, model: str, version: str | None = None, by: Trigger = "operator") -> RolledBack:
        """Have `version`, or the previous version, serve again. It is taken from the disk, so the registries are not needed.

        If no earlier version may serve, that is the fallback version, which may also be named.

        The version that served is held: syncs do not promote it until a newer version has served or the model is unpinned, and
        it does not count as the last known good version. Returns when every live worker has the other version in memory and it
        serves.
        """
        began = time.monotonic()
        with self._exclusively(model):
            now = self._now(model)
            left = _serving(now)
            to = self._earlier(model, now) if version is None else self._other(model, self._named(model, version), left)
            with self._held(model, left):
                workers = self._promote(model, to, by, leaving=left)
            if left != FALLBACK:
                self._writer.record("held", model, version=left, by=by)
        return RolledBack(model=model, left=left, to=to, workers=workers, seconds=since(began))

    def pin(self, model: str, version: str | None = None, by: Trigger = "operator") -> Pinned:
        """Keep `model` at the serving version, or at `version`, whatever the registry offers; ends a promotion under way."""
        began = time.monotonic()
        with self._exclusively(model):
            now = self._now(model)
            serving = _serving(now)
            wanted = serving if version is None else self._named(model, version)
            to = serving if wanted == serving else self._other(model, wanted, serving)
            with self._pinned(model, now):
                if now.serving is None and to == FALLBACK:
                    self._writer.change(lambda old: old.prepare(model, None))
                    workers = sum(worker.role == model for worker in self._writer.heartbeats.alive())
                else:
                    workers = self._promote(model, to, by)
            if not now.pinned:
                self._writer.record("pinned", model, version=to, by=by)
        return Pinned(model=model, version=to, workers=workers, seconds=since(began))

    def unpin(self, model: str, by: Trigger = "operator") -> Unpinned:
        """Have `model` follow its registry again, also to versions that a rollback left."""
        with self._exclusively(model):
            now = self._now(model)
            if now.pinned or now.held:
                self._writer.change(lambda old: old.pin(model, pinned=False).hold(model))
                self._writer.record("unpinned", model, by=by)
        if self._syncs:
            self._syncs.request("operator", [model])
        return Unpinned(model=model, was_pinned=now.pinned, released=now.held)

    def quarantine(self, model: str, version: str, reason: str, by: Trigger = "operator") -> Quarantined:
        """Keep a version that is on disk, and does not serve, from going live. If it is being promoted, that is given up."""
        with self._exclusively(model):
            if version == FALLBACK:
                raise CommandError("invalid", "The fallback version is never in quarantine: it is the last one to go back to.")
            self._require_on_disk(model, version)

            def given_up(old: Generations) -> Generations:
                now = old.of(model)
                if now.serving and now.serving.version == version:
                    raise CommandError("serving", f"{version} serves: roll {model} back first.")
                new = old.pause(model, None) if now.paused == version else old
                is_prepared = now.preparing is not None and now.preparing.version == version
                return new.prepare(model, None) if is_prepared else new

            folder = self.layout.version(model, version)
            known = registry_digest(folder) or digest(folder / MANIFEST)
            entry = Quarantined(model=model, version=version, digest=known, reason=reason, at=datetime.now(UTC))
            self._writer.change(given_up)
            self._writer.put_in_quarantine(entry, by, cause="operator")
            return entry

    def release(self, model: str, version: str, by: Trigger = "operator") -> None:
        """Take a version out of quarantine: the next sync may import it again."""
        with self._exclusively(model):
            if not self._writer.release(model, checked_version(version), by):
                raise CommandError(
                    "unknown", f"{model} {version} is not in quarantine. The status shows the versions that are."
                )

    def cancel(self, model: str, by: Trigger = "operator") -> Cancelled:
        """Cancel the import of `model` that is under way. The version is not put in quarantine.

        Syncs do not import it again until the registry offers other files, another version has served, or an operator requests
        a sync. Returns when the import has ended, but after at most `CANCEL_SECONDS`: MLflow's client receives a file to its
        end, for example.
        """
        with self._exclusively(model):
            imports = self._cancellations.get(model)
            cancelled = imports and imports.cancel(lambda running: self._writer.change(lambda old: old.cancel(model, running)))
            if not imports or not cancelled:
                raise CommandError("nothing", f"No import of {model} is under way. `abort` gives up a promotion.")
            self._writer.record("cancelled", model, version=cancelled.version, by=by)
            imports.wait(CANCEL_SECONDS)
        return Cancelled(model=model, version=cancelled.version)

    def gc(self) -> Collected:
        """Delete the versions that are no longer needed."""
        with store_errors():
            sizes = {
                (model, version): folder_size(self.layout.version(model, version))
                for model, versions in self.layout.published().items()
                for version in versions
            }
            removed = self._writer.collect_garbage()
        return Collected(
            removed=tuple(
                Removed(model=model, version=version, size_bytes=sizes.get((model, version), 0)) for model, version in removed
            )
        )

    @contextmanager
    def _held(self, model: str, version: str) -> Iterator[None]:
        """Hold `version`, which serves, so that no sync promotes it again; undone if the block fails and it still serves.

        The fallback version is not held: no sync promotes it.
        """
        if version == FALLBACK:
            yield
            return
        before = self._writer.generations().of(model).held

        def undone(old: Generations) -> Generations:
            serving = old.of(model).serving
            return old.hold(model, *before) if serving and serving.version == version else old

        self._writer.change(lambda old: old.hold(model, *before, version))
        try:
            yield
        except BaseException:
            self._writer.change(undone)
            raise

    @contextmanager
    def _pinned(self, model: str, now: ModelGeneration) -> Iterator[None]:
        """Pin `model`, so that no sync changes it; undone if the block fails."""
        self._writer.change(lambda old: old.pin(model, pinned=True))
        try:
            yield
        except BaseException:
            self._writer.change(lambda old: old.pin(model, pinned=now.pinned))
            raise

    def _earlier(self, model: str, now: ModelGeneration) -> str:
        """The last known good version; if it may not serve, the version that may and that served last, or else the fallback.

        Raises CommandError if the fallback serves.
        """
        if _serving(now) == FALLBACK:
            raise CommandError(
                "nothing", f"{model} serves its fallback version: there is nothing to go back to. Name a version of the status."
            )
        served = [event.version for event in self._writer.history.read(model) if event.kind == "activated" and event.version]
        candidates = [now.previous.version] if now.previous else []
        unwanted = {_serving(now), *now.held}
        for version in (*candidates, *reversed(served)):
            on_disk = self.layout.can_serve(model, version)
            if on_disk and version not in unwanted and not self._writer.quarantine.find(model, version):
                return version
        return FALLBACK

    def _named(self, model: str, version: str) -> str:
        """`version` by its name in the store: workers know the fallback version by its own name, and so may operators."""
        on_disk = self.layout.version(model, checked_version(version)).is_dir()
        workers = [worker for worker in self._writer.heartbeats.alive() if worker.role == model]
        return FALLBACK if not on_disk and any(worker.fallback == version for worker in workers) else version

    def _other(self, model: str, version: str, serving: str) -> str:
        """`version`, if it is on disk, may serve, and does not serve yet. Raises CommandError."""
        if version != FALLBACK:
            self._require_on_disk(model, version)
        if version == serving:
            raise CommandError("serving", f"{version} of {model} serves already.")
        if bad := self._writer.quarantine.find(model, version):
            raise CommandError("quarantined", f"{model} {version} is in quarantine: {bad.reason}. Release it first.")
        return version

    def _require_on_disk(self, model: str, version: str) -> None:
        if not self.layout.version(model, checked_version(version)).is_dir():
            raise CommandError(
                "unknown",
                f"{model} {version} is not on disk. The status shows the versions that are; `fallback` is the bundled one.",
            )

    def _promote(self, model: str, version: str, by: Trigger, *, leaving: str | None = None) -> int:
        source = self._source(model, version)
        tries = 0
        while True:
            tries += 1
            try:
                return promote(self._writer, model, version, source, by)
            except CannotLoadError as error:
                raise CommandError("cannot_load", f"The workers cannot load it: {error}.") from error
            except PromotionError as error:
                if not isinstance(error.__cause__, SupersededError):
                    raise CommandError("cannot_load", f"{error}.") from error
                now = self._writer.generations().of(model).serving
                if tries == TRIES or (leaving and now and now.version != leaving):
                    sentence = f"A sync was faster: {now and now.version} of {model} serves now."
                    raise CommandError("superseded", sentence) from error

    def _source(self, model: str, version: str) -> str:
        """The registry that a version came from, by the history."""
        if version == FALLBACK:
            return FALLBACK_SOURCE
        sources = [event.source for event in self._writer.history.read(model) if event.version == version and event.source]
        return sources[-1] if sources else "the store"


def _serving(now: ModelGeneration) -> str:
    return now.serving.version if now.serving else FALLBACK
