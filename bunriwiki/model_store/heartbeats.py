"""`run/`: the heartbeat of each worker, written once a second and whenever its state changes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bunriwiki.artifacts.features import Histograms
from bunriwiki.model_store.files import write_atomically
from bunriwiki.model_store.names import FALLBACK

EVERY = 1.0  # seconds between two heartbeats
ALIVE = 5.0  # seconds without a heartbeat after which a worker counts as dead
MAX_STEP = 2 * EVERY  # seconds of silence at most that one read adds: the reader itself may have been stopped in between
FORGOTTEN = 600.0  # seconds without a change after which a file is deleted

GATEWAY_ROLE = "gateway"
HOST = socket.gethostname()

WorkerState = Literal["starting", "ready", "ending"]


class Served(BaseModel):
    """What a version did in a worker since the worker's start.

    `inputs` were answered, in so many `batches`; `failures` of them failed through no fault of the input. `seconds` is the time
    that all answers took together, without the `waited` seconds in which the worker waited for a CPU core; `squares` is the sum
    of the squares of each batch's share of `seconds`.
    """

    model_config = ConfigDict(frozen=True)

    inputs: int = 0
    failures: int = 0
    batches: int = 0
    seconds: float = 0.0
    squares: float = 0.0
    waited: float = 0.0

    def plus(self, other: Served, times: int = 1) -> Served:
        """The sum of both, or with `times` -1 the difference."""
        return Served(
            inputs=self.inputs + times * other.inputs,
            failures=self.failures + times * other.failures,
            batches=self.batches + times * other.batches,
            seconds=self.seconds + times * other.seconds,
            squares=self.squares + times * other.squares,
            waited=self.waited + times * other.waited,
        )


class Shadowed(BaseModel):
    """How a version answers copies of live batches: inputs compared, and inputs answered differently."""

    model_config = ConfigDict(frozen=True)

    inputs: int = 0
    differing: int = 0


class Heartbeat(BaseModel):
    """The state of a worker at one moment.

    `role` is the model that it runs, or `GATEWAY_ROLE`. `generation` is the generation of its model that it follows;
    `serving` is the version that it answers with; `loaded` has every version in its memory with its state; a version that is
    `available` there is *prepared*. `errors` says why a version could not be loaded: a version that is not in `loaded` is not
    tried again. `fallback` is the name of its bundled version, which the generation file calls `FALLBACK`.
    """

    model_config = ConfigDict(frozen=True)

    worker: str
    host: str = HOST
    pid: int
    parent: int = Field(description="The process that started it.")
    role: str
    number: int = Field(default=0, ge=0, description="Its number in its role, from 0; its replacement gets it, too.")
    state: WorkerState
    generation: int = 0
    preparing: AwareDatetime | None = Field(default=None, description="`since` of the target that it prepares.")
    serving: str | None = None
    fallback: str | None = None
    loaded: dict[str, str] = Field(default_factory=dict)
    errors: dict[str, str] = Field(default_factory=dict)
    served: dict[str, Served] = Field(default_factory=dict, description="By version; of a runner.")
    observed: dict[str, Histograms] = Field(
        default_factory=dict, description="By version: the features of the inputs that it answered, and of its answers."
    )
    shadowed: dict[str, Shadowed] = Field(
        default_factory=dict, description="By model and version (model:version); of a gateway."
    )
    busy_since: float | None = Field(
        default=None, description="When the runner began its current batch, in seconds since the epoch."
    )
    busy_with: str | None = Field(default=None, description="The version that answers the current batch.")
    rss_bytes: int = Field(default=0, description="Resident memory.")
    over_limit: bool = Field(default=False, description="Whether that is more than the limit that applies to it.")
    at: float = Field(default=0.0, description="Seconds since the epoch.")

    @property
    def service(self) -> tuple[str, int]:
        """The service that the worker belongs to: its host, and the process that started it."""
        return self.host, self.parent

    def prepared(self, version: str) -> bool:
        """Whether it can answer with `version`, a name of the generation file."""
        return self.loaded.get(self._own_name(version)) == "available"

    def failed(self, version: str) -> str | None:
        """Why it gave up loading `version`, a name of the generation file; None if it did not give up."""
        name = self._own_name(version)
        return None if name in self.loaded else self.errors.get(name)

    def served_by(self, version: str) -> Served:
        """What `version`, a name of the generation file, did in it."""
        return self.served.get(self._own_name(version), Served())

    def _own_name(self, version: str) -> str:
        return self.fallback if version == FALLBACK and self.fallback else version


def worker_name(role: str) -> str:
    """A name for this process that no other worker has or had, on any host."""
    return f"{role}-{HOST}-{os.getpid()}-{time.time_ns():x}"


@dataclass(frozen=True, slots=True)
class _Observed:
    """A heartbeat as this reader last saw it, by its `at`, and the seconds for which it has seen no other."""

    at: float
    silent: float


class Heartbeats:
    """The heartbeats in the folder `run/`. Safe to use from many threads.

    A worker counts as dead if this reader has seen no change of its heartbeat for `ALIVE` seconds of `monotonic`, so that a
    clock that jumps kills nobody. Of a heartbeat that it has never seen before, the reader knows only the time in it. It
    believes that time while another heartbeat shows that the clocks agree. If every heartbeat looks old, that is unknown, and
    the workers count as alive until they have been silent for `ALIVE` seconds.
    """

    def __init__(self, folder: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._reading = threading.Lock()
        self._last_read = monotonic()
        self._observed: dict[str, _Observed] = {}
        self._unchanged: dict[tuple[Path, int], float] = {}  # by file and time of its change: since when it has been seen so

    def write(self, heartbeat: Heartbeat) -> None:
        """Write `heartbeat`, with the current time. It need not survive a power cut. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        text = heartbeat.model_copy(update={"at": time.time()}).model_dump_json()
        write_atomically(self._path(heartbeat.worker), text, durable=False)

    def alive(self) -> list[Heartbeat]:
        """The last heartbeat of every live worker, by name."""
        with self._reading:
            found = list(self._all())
            now = self._monotonic()
            passed, self._last_read = min(now - self._last_read, MAX_STEP), now
            ages = {heartbeat.worker: time.time() - heartbeat.at for heartbeat in found}
            clocks_agree = any(abs(age) < ALIVE for age in ages.values())
            observed = {}
            for heartbeat in found:
                before = self._observed.get(heartbeat.worker)
                if before is None:
                    silent = max(0.0, ages[heartbeat.worker]) if clocks_agree else 0.0
                else:
                    silent = before.silent + passed if before.at == heartbeat.at else 0.0
                observed[heartbeat.worker] = _Observed(heartbeat.at, silent)
            self._observed = observed
            return [heartbeat for heartbeat in found if observed[heartbeat.worker].silent < ALIVE]

    def forget(self, worker: str) -> None:
        """Delete the heartbeat of `worker`, which is about to end."""
        self._path(worker).unlink(missing_ok=True)

    def forget_process(self, pid: int) -> None:
        """Delete the heartbeats of a dead process of this host, so that no promotion waits for it until it times out."""
        for heartbeat in self._all():
            if heartbeat.pid == pid and heartbeat.host == HOST:
                self.forget(heartbeat.worker)

    def tidy(self) -> None:
        """Delete the heartbeats of workers that died long ago, and the files that they left half written.

        A file is deleted once a call finds it as a call `FORGOTTEN` seconds of `monotonic` before did. By its own time, a clock
        that jumps would make those of live workers old.
        """
        now, before, self._unchanged = self._monotonic(), self._unchanged, {}
        for path in (*self._folder.glob("*.json"), *self._folder.glob(".*.json.*")):
            with contextlib.suppress(OSError):
                found = path, path.stat().st_mtime_ns
                since = before.get(found, now)
                if now - since > FORGOTTEN:
                    path.unlink()
                else:
                    self._unchanged[found] = since

    def _all(self) -> Iterable[Heartbeat]:
        for path in sorted(self._folder.glob("[!.]*.json")):
            try:
                yield Heartbeat.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue  # it was just replaced or deleted, or is from another version of this program

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.json"
