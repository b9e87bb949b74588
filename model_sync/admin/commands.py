"""What a person may do to the store: the sidecar's API stands on this, and the command line where no sidecar runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from bunriwiki.artifacts.manifest import MANIFEST, MODELS, digest
from bunriwiki.model_store.generation import GenerationError, Generations, ModelGeneration, Trigger
from bunriwiki.model_store.promotion import CannotLoadError, PromotionError, promote
from bunriwiki.model_store.publication import registry_digest
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.writer import StoreWriter, SupersededError
from model_sync.admin.names import checked_model, checked_version
from model_sync.admin.status import StoreReader, folder_size
from model_sync.errors import CommandError
from model_sync.syncing.requests import SyncRequests

TRIES = 3  # against looks that prepare a version of theirs meanwhile


class _Done(BaseModel):
    model_config = ConfigDict(frozen=True, validate_by_name=True, serialize_by_alias=True)


class RolledBack(_Done):
    """`to` serves instead of `left`, and `workers` had it in memory at that moment."""

    model: str
    left: str = Field(alias="from")
    to: str
    workers: int
    seconds: float


class Pinned(_Done):
    """The model stays at `version`; null: at its fallback version."""

    model: str
    version: str | None
    workers: int
    seconds: float


class Unpinned(_Done):
    """The model follows its registry again. `was_pinned` and `released` (what was held) say what kept it from that."""

    model: str
    was_pinned: bool
    released: tuple[str, ...]


class Removed(_Done):
    """A version that was deleted."""

    model: str
    version: str
    bytes: int


class Collected(_Done):
    """What was deleted to make room."""

    removed: tuple[Removed, ...]


class Commands(StoreReader):
    """The commands, for the one writer. Safe to use from many threads; of one model one is carried out at a time.

    With `looks`, `unpin` asks for a look at the registry. Every method raises CommandError, and then nothing has changed.
    """

    def __init__(self, writer: StoreWriter, syncs: SyncRequests | None = None) -> None:
        super().__init__(writer.layout)
        self._writer = writer
        self._syncs = syncs
        self._turns = {model: threading.Lock() for model in MODELS}

    def rollback(self, model: str, version: str | None = None, by: Trigger = "operator") -> RolledBack:
        """Have `version` serve again, or the one that served before; from what lies on disk, whatever the registries do.

        The version that is left is held: no look brings it back, until a newer one served or somebody unpins; nor does it count
        as the last known good one. Returns when every live worker has the other one in memory and it serves.
        """
        began = time.monotonic()
        with self._turn(model):
            now = self._writer.generations().of(model)
            if now.serving is None:
                raise CommandError("nothing", f"{model} serves its fallback version: there is nothing to go back from.")
            left = now.serving.version
            to = self._earlier(model, now) if version is None else self._other(model, version, left)
            with self._held(model, left):
                workers = self._promote(model, to, by, leaving=left)
            self._writer.record("held", model, version=left, by=by)
        return RolledBack(model=model, left=left, to=to, workers=workers, seconds=_since(began))

    def pin(self, model: str, version: str | None = None, by: Trigger = "operator") -> Pinned:
        """Keep `model` at what serves, or at `version`, against all syncs. What was on its way in is given up."""
        began = time.monotonic()
        with self._turn(model):
            now = self._writer.generations().of(model)
            serving = now.serving.version if now.serving else None
            to = serving if version in (None, serving) else self._other(model, version or "", serving)
            with self._pinned(model, now):
                if to is None:
                    self._writer.change(lambda old: old.prepare(model, None))
                    workers = sum(one.role == model for one in self._writer.heartbeats.alive())
                else:
                    workers = self._promote(model, to, by)
            if not now.pinned:
                self._writer.record("pinned", model, version=to, by=by)
        return Pinned(model=model, version=to, workers=workers, seconds=_since(began))

    def unpin(self, model: str, by: Trigger = "operator") -> Unpinned:
        """Have `model` follow its registry again, also to a version that a rollback left."""
        with self._turn(model):
            now = self._writer.generations().of(model)
            if now.pinned or now.held:
                self._writer.change(lambda old: old.pin(model, pinned=False).hold(model))
                self._writer.record("unpinned", model, by=by)
        if self._syncs:
            self._syncs.request("operator", [model])
        return Unpinned(model=model, was_pinned=now.pinned, released=now.held)

    def quarantine(self, model: str, version: str, reason: str, by: Trigger = "operator") -> Quarantined:
        """Keep a version that is on disk, and does not serve, from going live. If it is on its way in, it is given up."""
        with self._turn(model):
            self._require_on_disk(model, version)

            def given_up(old: Generations) -> Generations:
                now = old.of(model)
                if now.serving and now.serving.version == version:
                    raise CommandError("serving", f"{version} serves: roll {model} back first.")
                is_on_its_way = now.preparing is not None and now.preparing.version == version
                return old.prepare(model, None) if is_on_its_way else old

            folder = self.layout.version(model, version)
            known = registry_digest(folder) or digest(folder / MANIFEST)
            one = Quarantined(model=model, version=version, digest=known, reason=reason, at=datetime.now(UTC))
            self._writer.change(given_up)
            self._writer.put_in_quarantine(one, by)
            return one

    def release(self, model: str, version: str, by: Trigger = "operator") -> None:
        """Let a version be tried again."""
        with self._turn(model):
            if not self._writer.release(model, checked_version(version), by):
                raise CommandError("unknown", f"{model} {version} is not in quarantine. The status says what is.")

    def gc(self) -> Collected:
        """Delete the versions that nothing needs any more."""
        with _plainly():
            sizes = {
                (model, version): folder_size(self.layout.version(model, version))
                for model, versions in self.layout.published().items()
                for version in versions
            }
            removed = self._writer.collect_garbage()
        return Collected(
            removed=tuple(Removed(model=one[0], version=one[1], bytes=sizes.get(one, 0)) for one in removed),
        )

    @contextmanager
    def _turn(self, model: str) -> Iterator[None]:
        """Alone with `model`: a second rollback, by somebody who is impatient, would go one version further back."""
        turn = self._turns[checked_model(model)]
        if not turn.acquire(blocking=False):
            raise CommandError("busy", f"Another command for {model} is under way: wait for it, then look at the status.")
        try:
            with _plainly():
                yield
        finally:
            turn.release()

    @contextmanager
    def _held(self, model: str, version: str) -> Iterator[None]:
        """`version`, which serves, is held from here on, so that no look brings it back; but not if it serves on."""
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
        """`model` is pinned from here on, so that no look changes it meanwhile; as before if what is done within fails."""
        self._writer.change(lambda old: old.pin(model, pinned=True))
        try:
            yield
        except BaseException:
            self._writer.change(lambda old: old.pin(model, pinned=now.pinned))
            raise

    def _earlier(self, model: str, now: ModelGeneration) -> str:
        """The last known good version, or else the one that served last, of those that may serve."""
        served = [event.version for event in self._writer.history.read(model) if event.kind == "activated" and event.version]
        candidates = [now.previous.version] if now.previous else []
        unwanted = {now.serving.version if now.serving else "", *now.held}
        for version in (*candidates, *reversed(served)):
            on_disk = self.layout.version(model, version).is_dir()
            if on_disk and version not in unwanted and not self._writer.quarantine.find(model, version):
                return version
        raise CommandError(
            "nothing",
            f"There is nothing to go back to: no earlier version of {model} is on disk, out of quarantine, and not left by a "
            "rollback itself. Name one of those that the status shows.",
        )

    def _other(self, model: str, version: str, serving: str | None) -> str:
        """`version`, which is on disk, may serve, and does not yet."""
        self._require_on_disk(model, version)
        if version == serving:
            raise CommandError("serving", f"{version} of {model} serves already.")
        if bad := self._writer.quarantine.find(model, version):
            raise CommandError("quarantined", f"{model} {version} is in quarantine: {bad.reason}. Release it first.")
        return version

    def _require_on_disk(self, model: str, version: str) -> None:
        if not self.layout.version(model, checked_version(version)).is_dir():
            raise CommandError("unknown", f"{model} {version} is not on disk. The status says which versions are.")

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
                    sentence = f"A look at the registry was faster: {now and now.version} of {model} serves now."
                    raise CommandError("superseded", sentence) from error

    def _source(self, model: str, version: str) -> str:
        """Where a version came from."""
        sources = [event.source for event in self._writer.history.read(model) if event.version == version and event.source]
        return sources[-1] if sources else "the store"


@contextmanager
def _plainly() -> Iterator[None]:
    """Errors of the store as CommandError."""
    try:
        yield
    except (GenerationError, OSError) as error:
        raise CommandError("failed", f"The store cannot be changed: {error}.") from error


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)
