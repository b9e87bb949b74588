"""The status that everybody may see. The models here are an allow-list: what they do not name needs an admin token.

They name no process, host, file or address, and no text of a library or a registry. A runner reports the names and states of
the versions in its memory, so third-party code in it may make those up.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from bunriwiki.model_store.generation import Canary, CancelledImport, Trigger
from bunriwiki.model_store.heartbeats import WorkerState
from bunriwiki.protocols.handlers.status import ServiceStatus


class _Public(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class PublicTarget(_Public):
    """A version, since when, and by which trigger."""

    version: str
    since: AwareDatetime
    by: Trigger


class PublicWorker(_Public):
    """A live worker of a model, of this service or of another one that shares the store."""

    here: bool
    number: int
    state: WorkerState
    generation: int
    serving: str | None
    loaded: dict[str, str]
    rss_bytes: int
    heartbeat_age_seconds: float


class PublicSync(_Public):
    """The last sync with the registry."""

    synced_at: AwareDatetime | None
    status: str | None
    version: str | None
    phase: str | None
    phase_since: AwareDatetime | None
    phase_share: float | None
    seconds: dict[str, float]


class PublicModelStatus(_Public):
    """What serves of a model, and what its workers do."""

    name: str
    generation: int
    serving: PublicTarget | None
    previous: PublicTarget | None
    preparing: PublicTarget | None
    canary: Canary | None
    paused: str | None
    pinned: bool
    held: tuple[str, ...]
    cancelled: CancelledImport | None
    fallback: str
    degraded: bool
    reasons: tuple[str, ...] = Field(validation_alias="public_reasons", description="Why it is degraded, a phrase each.")
    workers: tuple[PublicWorker, ...]
    sync: PublicSync | None


class PublicStatus(_Public):
    """The status of every model, for everybody."""

    models: tuple[PublicModelStatus, ...]

    @classmethod
    def of(cls, status: ServiceStatus) -> PublicStatus:
        """What everybody may see of `status`."""
        return cls.model_validate(status)
