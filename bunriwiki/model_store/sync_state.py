"""`sync.json`: what the sidecar says of itself, each time it changes and every two seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.model_store.files import write_atomically
from bunriwiki.model_store.heartbeats import HOST

EVERY = 2.0  # seconds between two writings
ALIVE = 10.0  # seconds after which a sidecar that says nothing is dead


class ModelSync(BaseModel):
    """What the sidecar knows of one model."""

    model_config = ConfigDict(frozen=True)

    source: str = Field(description="The registry that it comes from.")
    synced_at: AwareDatetime | None = Field(
        default=None, description="When the last look at the registry ended; null before the first."
    )
    status: str | None = Field(
        default=None, description="What it led to: unchanged, swapped, rejected, pinned, held, unreachable or failed."
    )
    version: str | None = Field(default=None, description="The version that it was about, as the store names it.")
    reason: str | None = Field(default=None, description="Why, where nothing was swapped.")
    phase: str | None = Field(default=None, description="What is being done now; null when nothing is.")
    phase_since: AwareDatetime | None = None
    phase_share: float | None = Field(default=None, description="How much of it is done, 0..1, where that is known.")
    seconds: dict[str, float] = Field(default_factory=dict, description="What each phase of the last import took.")
    findings: list[str] = Field(default_factory=list, description="What its gates found, a sentence each.")
    rollout: str | None = Field(
        default=None, description="What the watch sees of the newest version on live traffic, or last saw."
    )

    @property
    def trouble(self) -> str | None:
        """Why what serves may be old, in a phrase; None when it is as new as can be."""
        return f"{self.source}: {self.reason}" if self.status in ("unreachable", "failed") else None


class SyncState(BaseModel):
    """The sidecar at one moment."""

    model_config = ConfigDict(frozen=True)

    host: str = HOST
    pid: int = Field(default_factory=os.getpid)
    since: AwareDatetime
    at: float = Field(default=0.0, description="Seconds since the epoch.")
    models: dict[str, ModelSync]
    ended: bool = Field(default=False, description="Whether it has ended in order.")
    problems: list[str] = Field(default_factory=list, description="What is wrong elsewhere (a queue, say), a sentence each.")

    def write(self, path: Path) -> None:
        """Say it. It need not survive a power cut."""
        write_atomically(path, self.model_copy(update={"at": time.time()}).model_dump_json(), durable=False)

    @classmethod
    def read(cls, path: Path) -> SyncState | None:
        """What the sidecar said last; None where none ever did."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    @property
    def is_alive(self) -> bool:
        return not self.ended and time.time() - self.at < ALIVE

    @property
    def has_synced(self) -> bool:
        """Whether every model was looked at once since the sidecar's start."""
        return all(one.synced_at for one in self.models.values())
