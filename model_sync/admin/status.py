"""How every model stands, read from the store. It takes no lock, and works with no sidecar."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import GenerationError, Generations, ModelGeneration, Target
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats
from bunriwiki.model_store.history import Event, History
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.publication import MODEL_YAML
from bunriwiki.model_store.quarantine import Quarantine, Quarantined
from bunriwiki.model_store.sync_state import ModelSync, SyncState
from model_sync.admin.names import checked_model
from model_sync.errors import CommandError

SHOWN = 50  # events of the history, where nobody says how many


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class StoredVersion(_Frozen):
    """A published version on disk."""

    version: str
    bytes: int
    published: AwareDatetime


class Worker(_Frozen):
    """A live worker of a model, as it says of itself."""

    worker: str
    host: str
    pid: int
    state: str
    generation: int
    serving: str | None
    loaded: dict[str, str] = Field(description="Every version in its memory, with its state.")
    errors: dict[str, str] = Field(description="Why a version could not be loaded.")
    rss: int = Field(description="Resident memory in bytes.")
    seconds_since_heard: float


class ModelStatus(_Frozen):
    """One model. Where `serving` is null, its fallback version serves."""

    model: str
    generation: int
    serving: Target | None
    previous: Target | None
    preparing: Target | None
    pinned: bool
    held: tuple[str, ...]
    versions: tuple[StoredVersion, ...] = Field(description="What lies on disk, the newest first.")
    quarantined: tuple[Quarantined, ...]
    workers: tuple[Worker, ...]
    sync: ModelSync | None = Field(description="What the sidecar found in the registry; null where none ever ran.")


class SidecarStatus(_Frozen):
    """The sidecar that wrote to the store last."""

    alive: bool
    host: str
    pid: int
    since: AwareDatetime
    problems: tuple[str, ...]


class StoreStatus(_Frozen):
    """Everything. `sidecar` is null where none ever ran."""

    sidecar: SidecarStatus | None
    models: tuple[ModelStatus, ...]


class StoreReader:
    """Reads the store at `layout`, which need not exist."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def status(self) -> StoreStatus:
        """How every model stands now. Raises CommandError when the store cannot be read."""
        try:
            generations = Generations.read(self.layout.generation)
            quarantined = Quarantine(self.layout.quarantine).all()
        except (GenerationError, OSError) as error:
            raise CommandError("failed", str(error)) from error
        alive = Heartbeats(self.layout.run).alive()
        sync = SyncState.read(self.layout.sync)
        return StoreStatus(
            sidecar=_sidecar(sync) if sync else None,
            models=tuple(
                self._model(
                    model,
                    generations.of(model),
                    [one for one in quarantined if one.model == model],
                    [one for one in alive if one.role == model],
                    sync.models.get(model) if sync else None,
                )
                for model in MODELS
            ),
        )

    def history(self, model: str | None = None, last: int = SHOWN) -> list[Event]:
        """The `last` events, of one model or of all, the oldest first. Raises CommandError for a model that is none."""
        events = History(self.layout.history).read(None if model is None else checked_model(model))
        return list(deque(events, maxlen=last))

    def _model(
        self,
        model: str,
        now: ModelGeneration,
        quarantined: Sequence[Quarantined],
        workers: Sequence[Heartbeat],
        sync: ModelSync | None,
    ) -> ModelStatus:
        versions = [_stored(self.layout.version(model, version)) for version in self.layout.versions(model)]
        return ModelStatus(
            model=model,
            generation=now.generation,
            serving=now.serving,
            previous=now.previous,
            preparing=now.preparing,
            pinned=now.pinned,
            held=now.held,
            versions=tuple(sorted((one for one in versions if one), key=lambda one: one.published, reverse=True)),
            quarantined=tuple(quarantined),
            workers=tuple(_worker(one) for one in workers),
            sync=sync,
        )


def folder_size(folder: Path) -> int:
    """The bytes of all files below `folder`. Raises OSError when one goes meanwhile."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _stored(folder: Path) -> StoredVersion | None:
    try:
        published = datetime.fromtimestamp((folder / MODEL_YAML).stat().st_mtime, UTC)
        return StoredVersion(version=folder.name, bytes=folder_size(folder), published=published)
    except OSError:  # it has just been removed to make room
        return None


def _sidecar(sync: SyncState) -> SidecarStatus:
    return SidecarStatus(alive=sync.is_alive, host=sync.host, pid=sync.pid, since=sync.since, problems=tuple(sync.problems))


def _worker(one: Heartbeat) -> Worker:
    return Worker(
        worker=one.worker,
        host=one.host,
        pid=one.pid,
        state=one.state,
        generation=one.generation,
        serving=one.serving,
        loaded=one.loaded,
        errors=one.errors,
        rss=one.rss,
        seconds_since_heard=round(max(0.0, time.time() - one.at), 1),
    )
