"""The status of every model and worker, read from the store. It takes no lock and needs no running sidecar."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.generation import Canary, CancelledImport, Generations, ModelGeneration, Target
from bunriwiki.model_store.heartbeats import Heartbeat, Heartbeats, WorkerState
from bunriwiki.model_store.layout import MODEL_YAML, Layout
from bunriwiki.model_store.quarantine import Quarantine, Quarantined
from bunriwiki.model_store.sync_state import ModelSync, SyncState


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class WorkerStatus(_Frozen):
    """A live worker of a model, by its last heartbeat."""

    name: str
    host: str
    pid: int
    state: WorkerState
    generation: int = Field(description="The generation of its model that it follows.")
    serving: str | None = Field(description="The version that it answers with.")
    loaded: dict[str, str] = Field(description="Every version in its memory, with its state.")
    errors: dict[str, str] = Field(description="Why a version could not be loaded.")
    rss_bytes: int = Field(description="Resident memory.")
    heartbeat_age_seconds: float

    @classmethod
    def of(cls, heartbeat: Heartbeat, **more: Any) -> Self:
        """The status that `heartbeat` reports; `more` are the fields that a subclass adds."""
        return cls(
            name=heartbeat.worker,
            host=heartbeat.host,
            pid=heartbeat.pid,
            state=heartbeat.state,
            generation=heartbeat.generation,
            serving=heartbeat.serving,
            loaded=heartbeat.loaded,
            errors=heartbeat.errors,
            rss_bytes=heartbeat.rss_bytes,
            heartbeat_age_seconds=round(max(0.0, time.time() - heartbeat.at), 1),
            **more,
        )


class ModelStatus(_Frozen):
    """What should serve of a model, and what its workers do."""

    name: str
    generation: int = Field(description="How often the serving version was changed; 0: nothing was ever promoted.")
    serving: Target | None = Field(description="The version that should answer; null: the fallback version, by default.")
    previous: Target | None = Field(description="The version that served before, for a rollback.")
    preparing: Target | None = Field(description="The version that the workers are loading.")
    canary: Canary | None = Field(description="The share of the batches that the version in `preparing` gets; null: none.")
    paused: str | None = Field(description="The version whose canary an operator paused.")
    pinned: bool = Field(description="Whether syncs leave the serving version as it is.")
    held: tuple[str, ...] = Field(description="The versions that a rollback or an abort left: syncs do not promote them.")
    cancelled: CancelledImport | None = Field(description="The import that an operator cancelled: syncs do not repeat it.")
    workers: tuple[WorkerStatus, ...]
    sync: ModelSync | None = Field(description="The last sync with the registry; null without a sidecar.")

    @classmethod
    def of(
        cls, name: str, generation: ModelGeneration, workers: Iterable[WorkerStatus], sync: ModelSync | None, **more: Any
    ) -> Self:
        """The status of the model `name`; `more` are the fields that a subclass adds."""
        return cls(
            name=name,
            generation=generation.generation,
            serving=generation.serving,
            previous=generation.previous,
            preparing=generation.preparing,
            canary=generation.canary,
            paused=generation.paused,
            pinned=generation.pinned,
            held=generation.held,
            cancelled=generation.cancelled,
            workers=tuple(workers),
            sync=sync,
            **more,
        )


class StoredVersion(_Frozen):
    """A published version on disk."""

    version: str
    size_bytes: int
    published_at: AwareDatetime


class StoredModelStatus(ModelStatus):
    """A model's status, with its versions in the store."""

    versions: tuple[StoredVersion, ...] = Field(description="The published versions, newest first.")
    quarantined: tuple[Quarantined, ...]


class SidecarStatus(_Frozen):
    """The sidecar that wrote to the store last."""

    alive: bool
    host: str
    pid: int
    since: AwareDatetime
    problems: tuple[str, ...]


class StoreStatus(_Frozen):
    """The status of the whole store. `sidecar` is null if none ever ran."""

    sidecar: SidecarStatus | None
    models: tuple[StoredModelStatus, ...]


def read_status(layout: Layout) -> StoreStatus:
    """The status of the store at `layout`, which need not exist. Raises GenerationError, OSError."""
    generations = Generations.read(layout.generation)
    quarantined = Quarantine(layout.quarantine).all()
    heartbeats = Heartbeats(layout.run).alive()
    sync = SyncState.read(layout.sync)
    return StoreStatus(
        sidecar=_sidecar(sync) if sync else None,
        models=tuple(
            StoredModelStatus.of(
                model,
                generations.of(model),
                (WorkerStatus.of(heartbeat) for heartbeat in heartbeats if heartbeat.role == model),
                sync.models.get(model) if sync else None,
                versions=_versions(layout, model),
                quarantined=tuple(entry for entry in quarantined if entry.model == model),
            )
            for model in MODELS
        ),
    )


def folder_size(folder: Path) -> int:
    """The size of all files below `folder` in bytes. Raises OSError if a file is removed meanwhile."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _versions(layout: Layout, model: str) -> tuple[StoredVersion, ...]:
    found = (_stored(layout.version(model, version)) for version in layout.versions(model))
    return tuple(sorted((stored for stored in found if stored), key=lambda stored: stored.published_at, reverse=True))


def _stored(folder: Path) -> StoredVersion | None:
    try:
        published_at = datetime.fromtimestamp((folder / MODEL_YAML).stat().st_mtime, UTC)
        return StoredVersion(version=folder.name, size_bytes=folder_size(folder), published_at=published_at)
    except OSError:  # it was just removed by the garbage collection
        return None


def _sidecar(sync: SyncState) -> SidecarStatus:
    return SidecarStatus(alive=sync.is_alive, host=sync.host, pid=sync.pid, since=sync.since, problems=tuple(sync.problems))
