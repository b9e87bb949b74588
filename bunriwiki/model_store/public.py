"""What everybody may see of the store's status and history, and of the sidecar's state: an allow-list. All else needs an admin
token.

No process, host, file or address, and no text of a library or a registry. A field that must have a value has `NOT_SHOWN`, or 0.
"""

from __future__ import annotations

from bunriwiki.model_store.generation import Target
from bunriwiki.model_store.history import Event
from bunriwiki.model_store.quarantine import Quarantined
from bunriwiki.model_store.status import SidecarStatus, StoredModelStatus, StoreStatus, WorkerStatus
from bunriwiki.model_store.sync_state import ModelSync, SyncState

NOT_SHOWN = "shown with an admin token"


def public_state(state: SyncState) -> SyncState:
    """The state of the sidecar, for everybody."""
    return SyncState(
        host=NOT_SHOWN,
        pid=0,
        since=state.since,
        at=state.at,
        models={model: _sync(sync) for model, sync in state.models.items()},
        ended=state.ended,
    )


def public_status(status: StoreStatus) -> StoreStatus:
    """The status of the store, for everybody."""
    sidecar = status.sidecar
    return StoreStatus(
        sidecar=SidecarStatus(alive=sidecar.alive, host=NOT_SHOWN, pid=0, since=sidecar.since, problems=())
        if sidecar
        else None,
        models=tuple(_model(model) for model in status.models),
    )


def public_event(event: Event) -> Event:
    """An event of the history, for everybody: without its reason, the registry's address, and the id of a token."""
    return Event(
        at=event.at,
        kind=event.kind,
        model=event.model,
        version=event.version,
        generation=event.generation,
        previous=event.previous,
        by=event.by,
        workers=event.workers,
        seconds=event.seconds,
        forced=event.forced,
        cause=event.cause,
        rollout=event.rollout,
    )


def _model(model: StoredModelStatus) -> StoredModelStatus:
    return StoredModelStatus(
        name=model.name,
        generation=model.generation,
        serving=_target(model.serving),
        previous=_target(model.previous),
        preparing=_target(model.preparing),
        canary=model.canary,
        paused=model.paused,
        pinned=model.pinned,
        held=model.held,
        cancelled=model.cancelled,
        workers=tuple(_worker(number, worker) for number, worker in enumerate(model.workers, 1)),
        sync=_sync(model.sync) if model.sync else None,
        versions=model.versions,
        quarantined=tuple(
            Quarantined(model=entry.model, version=entry.version, digest=entry.digest, reason=NOT_SHOWN, at=entry.at)
            for entry in model.quarantined
        ),
    )


def _target(target: Target | None) -> Target | None:
    return Target(version=target.version, since=target.since, source=NOT_SHOWN, by=target.by) if target else None


def _worker(number: int, worker: WorkerStatus) -> WorkerStatus:
    return WorkerStatus(
        name=str(number),
        host=NOT_SHOWN,
        pid=0,
        state=worker.state,
        generation=worker.generation,
        serving=worker.serving,
        loaded=worker.loaded,
        errors={},
        rss_bytes=worker.rss_bytes,
        heartbeat_age_seconds=worker.heartbeat_age_seconds,
    )


def _sync(sync: ModelSync) -> ModelSync:
    return ModelSync(
        source=NOT_SHOWN,
        synced_at=sync.synced_at,
        status=sync.status,
        version=sync.version,
        phase=sync.phase,
        phase_since=sync.phase_since,
        phase_share=sync.phase_share,
        seconds=sync.seconds,
    )
