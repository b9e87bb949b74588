"""`run/`: what each worker says of itself, once a second and whenever it changes."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.model_store.files import write_atomically

EVERY = 1.0  # seconds between two heartbeats
ALIVE = 5.0  # seconds after which a worker that says nothing is dead
FORGOTTEN = 600.0  # seconds after which what it said is deleted

HOST = socket.gethostname()


class Served(BaseModel):
    """What one version did in a worker since the worker's start: inputs answered, those of them that failed through no fault of
    theirs, the batches that they came in, and the seconds that the answers took, all together."""

    model_config = ConfigDict(frozen=True)

    inputs: int = 0
    failures: int = 0
    batches: int = 0
    seconds: float = 0.0


class Shadowed(BaseModel):
    """How a version that gets copies of live batches answers them: inputs compared, and those answered differently."""

    model_config = ConfigDict(frozen=True)

    inputs: int = 0
    differing: int = 0


class Heartbeat(BaseModel):
    """A worker at one moment.

    `role` is the model that it runs, or `gateway`. `generation` is that of its model which it follows; `serving` what it
    answers with; `loaded` every version in its memory, in its state; a version that is `available` there is *prepared*.
    `errors` says why a version could not be loaded: after its last try for those that are no longer in `loaded`.
    """

    model_config = ConfigDict(frozen=True)

    worker: str
    host: str = HOST
    pid: int
    parent: int = Field(description="The process that started it.")
    role: str
    state: Literal["starting", "ready", "ending"]
    generation: int = 0
    preparing: AwareDatetime | None = Field(default=None, description="Since when what it prepares is to be prepared.")
    serving: str | None = None
    loaded: dict[str, str] = Field(default_factory=dict)
    errors: dict[str, str] = Field(default_factory=dict)
    served: dict[str, Served] = Field(default_factory=dict, description="By version; a runner's.")
    shadowed: dict[str, Shadowed] = Field(
        default_factory=dict, description="By model and version (model:version); a gateway's."
    )
    busy_since: float | None = Field(default=None, description="When the batch that is being answered began; a runner's.")
    busy_with: str | None = Field(default=None, description="The version that answers it.")
    rss: int = Field(default=0, description="Resident memory in bytes.")
    at: float = Field(default=0.0, description="Seconds since the epoch.")

    @property
    def service(self) -> tuple[str, int]:
        """Which service the worker is one of: its host, and the process that started it."""
        return self.host, self.parent

    def prepared(self, version: str) -> bool:
        """Whether it can answer with `version`."""
        return self.loaded.get(version) == "available"

    def failed(self, version: str) -> str | None:
        """Why it gave up loading `version`; None when it did not."""
        return None if version in self.loaded else self.errors.get(version)


def worker_name(role: str) -> str:
    """A name for this process that no other worker has, on no host, nor had."""
    return f"{role}-{HOST}-{os.getpid()}-{time.time_ns():x}"


class Heartbeats:
    """The folder `run/`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, heartbeat: Heartbeat) -> None:
        """Say `heartbeat`. It need not survive a power cut."""
        self._folder.mkdir(parents=True, exist_ok=True)
        text = heartbeat.model_copy(update={"at": time.time()}).model_dump_json()
        write_atomically(self._path(heartbeat.worker), text, durable=False)

    def alive(self) -> list[Heartbeat]:
        """What every worker said that lives, by its name."""
        now = time.time()
        return [one for one in self._all() if now - one.at < ALIVE]

    def forget(self, worker: str) -> None:
        """Delete what `worker` said: it ends."""
        self._path(worker).unlink(missing_ok=True)

    def forget_process(self, pid: int) -> None:
        """Delete what a process of this host said: it is dead, and nobody should wait until that is noticed."""
        for one in self._all():
            if one.pid == pid and one.host == HOST:
                self.forget(one.worker)

    def tidy(self) -> None:
        """Delete what the long dead said, and what they left half said."""
        for path in (*self._folder.glob("*.json"), *self._folder.glob(".*.json.*")):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > FORGOTTEN:
                    path.unlink()

    def _all(self) -> Iterable[Heartbeat]:
        for path in sorted(self._folder.glob("[!.]*.json")):
            try:
                yield Heartbeat.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue  # it has just been replaced or has ended, or is of another version of this program

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.json"
