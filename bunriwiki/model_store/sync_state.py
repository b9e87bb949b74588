"""`sync.json`: the state of the sidecar, written whenever it changes and every two seconds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.model_store.files import write_atomically
from bunriwiki.model_store.heartbeats import HOST

EVERY = 2.0  # seconds between two writes
ALIVE = 10.0  # seconds without a write after which the sidecar counts as dead


class ModelSync(BaseModel):
    """The last sync of one model."""

    model_config = ConfigDict(frozen=True)

    source: str = Field(description="The registry of the model.")
    synced_at: AwareDatetime | None = Field(
        default=None, description="When the last sync with the registry ended; null before the first."
    )
    status: str | None = Field(
        default=None,
        description="Its outcome: unchanged, promoted, rejected, undecided, pinned, held, cancelled, unreachable or failed.",
    )
    version: str | None = Field(default=None, description="The version that the registry offered, by its name in the store.")
    reason: str | None = Field(default=None, description="Why no version was promoted.")
    phase: str | None = Field(default=None, description="The phase of the sync that is running; null if none is.")
    phase_since: AwareDatetime | None = None
    phase_share: float | None = Field(default=None, description="How much of the phase is done, 0..1; null if unknown.")
    seconds: dict[str, float] = Field(default_factory=dict, description="The duration of each phase of the last import.")
    findings: list[str] = Field(default_factory=list, description="The findings of its gates, a sentence each.")
    rollout: str | None = Field(default=None, description="The last report of the rollout monitor on the newest version.")

    @property
    def trouble(self) -> str | None:
        """Why the serving version may be outdated, in a phrase; None if the registry could be read and the import could run."""
        return f"{self.source}: {self.reason}" if self.status in ("unreachable", "failed") else None


class SyncState(BaseModel):
    """The state of the sidecar at one moment."""

    model_config = ConfigDict(frozen=True)

    host: str = HOST
    pid: int = Field(default_factory=os.getpid)
    since: AwareDatetime
    at: float = Field(default=0.0, description="Seconds since the epoch.")
    models: dict[str, ModelSync]
    ended: bool = Field(default=False, description="Whether it was shut down in order.")
    problems: list[str] = Field(
        default_factory=list, description="What else is wrong (with the SQS queue, for example), a sentence each."
    )

    def write(self, path: Path) -> None:
        """Write it to `path`, with the current time. It need not survive a power cut. Raises OSError."""
        write_atomically(path, self.model_copy(update={"at": time.time()}).model_dump_json(), durable=False)

    @classmethod
    def read(cls, path: Path) -> SyncState | None:
        """The state in the file `path`; None if there is none, or it is not valid."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    @property
    def is_alive(self) -> bool:
        """Whether the sidecar runs: it was not shut down, and wrote its state within the last `ALIVE` seconds.

        By the clock, so for those who read the state once: `SyncWatch` is for the others.
        """
        return not self.ended and time.time() - self.at < ALIVE

    @property
    def has_synced(self) -> bool:
        """Whether the sidecar has synced every model since its start."""
        return all(model.synced_at for model in self.models.values())


class SyncWatch:
    """Reads the file `path` again and again, and knows whether the sidecar runs. Safe to use from many threads.

    A state is as old as its last observed change, in seconds of `monotonic`, so that a clock that jumps neither ends a sidecar
    nor revives one. If this reader has not looked for `ALIVE` seconds, it knows only the time in the state.
    """

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._reading = threading.Lock()
        self._at: float | None = None
        self._read = self._changed = float("-inf")

    def read(self) -> tuple[SyncState | None, bool]:
        """The state, None if there is none or it is not valid; and whether the sidecar that wrote it runs."""
        with self._reading:
            state, now = SyncState.read(self._path), self._monotonic()
            looked, self._read = now - self._read < ALIVE, now
            if state is None:
                return None, False
            if state.at != self._at:
                self._at = state.at
                self._changed = now if looked else now - max(0.0, time.time() - state.at)
            return state, not state.ended and now - self._changed < ALIVE
