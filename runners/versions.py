"""The versions of one model in one worker: loads, serves and unloads them as the store says, and reports their state."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Generic

from loguru import logger

from bunriwiki.lifecycle.handle import Handle
from bunriwiki.lifecycle.manager import PARALLEL_LOADS, PAUSES, LoaderFactory, Manager
from bunriwiki.lifecycle.servable import ServableState, State
from bunriwiki.model_store.generation_watcher import Aspired, Candidate, GenerationWatcher
from bunriwiki.model_store.heartbeats import EVERY
from bunriwiki.settings import settings
from bunriwiki.telemetry.metrics.loads import LOADED, LOADS, SWAPS
from bunriwiki.telemetry.vitals import Vitals
from runners.folder_loader import FolderLoader, ServableT
from runners.headroom import beside_serving
from runners.throttle import LoadThrottle, load_lock, unthrottled

START_SECONDS = 60.0  # in which a worker must load a version; after half of it, any version that could serve instead
LINGER = 2.0  # seconds that a version stays in memory after a hot swap, for gateways that have not noticed the swap yet
GRACE = 0.5  # seconds that a worker may lag behind one that serves the new version
PATIENCE = 10.0  # seconds that a load waits for other loads
TRY_AGAIN = 60.0  # seconds until a failed load of the version that should serve is repeated
LAST_ANSWERS = 3.0  # seconds for a worker with a stuck batch to answer other batches before it ends


class NoVersionError(Exception):
    """No version could be loaded, not even the bundled fallback. The message has the reasons."""


class Versions(Generic[ServableT]):
    """Keeps in memory the versions that `generation_watcher` lists, and serves the one that it says should serve.

    A version that cannot be loaded never replaces the serving version. A worker that cannot load an activated version, while
    another worker serves it, ends itself, and the parent starts a new one. At its start, a worker that cannot load the version
    that should serve takes the previous version, then the bundled fallback.

    `clock` is in seconds.
    """

    def __init__(
        self,
        model: str,
        open_version: Callable[[Path], ServableT],
        generation_watcher: GenerationWatcher,
        vitals: Vitals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._open = open_version
        self._generation_watcher = generation_watcher
        self._vitals = vitals
        self._clock = clock
        self._manager: Manager[ServableT] = Manager(model, listener=self._note, pauses=PAUSES, within=self._load_slot)
        self._lock_folder = generation_watcher.fallback(model)
        self._loading = threading.Lock()
        self._wake = threading.Event()
        self._serving: Candidate | None = None
        self._leaving: dict[str, tuple[Candidate, float]] = {}  # versions that served before, and until when they stay
        self._failed: dict[str, float] = {}  # the versions that could not be loaded, and since when
        self._behind_since: float | None = None
        self._stuck_since: float | None = None
        self._batch: float | None = None  # `busy_since` of the batch under way
        self._batch_seen = 0.0  # since when it is seen, by the clock of this object: the other one may jump
        self._late = False

    def start(self) -> None:
        """Block until a version serves, then follow the store in a thread. Raises NoVersionError."""
        gc.freeze()  # objects that exist now live on: the collection after an unload skips them, and takes less time
        self._generation_watcher.refresh()
        self._generation_watcher.start(self._wake.set)
        begun = self._clock()
        while not self._step():
            waited = self._clock() - begun
            self._late = waited > START_SECONDS / 2
            if waited > START_SECONDS:
                raise NoVersionError(f"no version of {self._model} was loaded within {START_SECONDS:g} s")
            self._wake.wait(EVERY)
            self._wake.clear()
        self._vitals.ready()
        threading.Thread(target=self._run, name=f"follow {self._model}", daemon=True).start()

    def stop(self) -> None:
        """Stop following the store, and withdraw the heartbeat, so that no promotion waits for this worker."""
        self._generation_watcher.stop()
        self._vitals.leave()

    def handle(self, version: str) -> Handle[ServableT]:
        """A handle to `version`. Raises NotAvailableError."""
        return self._manager.handle(version)

    @property
    def serving(self) -> str:
        """The version that this worker serves; empty before the first."""
        return self._manager.serving or ""

    def _run(self) -> None:
        while self._vitals.latest.state != "ending":
            try:
                self._step()
                self._end_where_others_are_ahead()
                self._end_when_all_loads_are_stuck()
                self._end_when_a_batch_is_stuck()
                self._vitals.check_memory()
            except Exception:  # an error of the store must not end the thread: the serving version keeps serving
                logger.exception("{} could not follow the store", self._model)
            self._wake.wait(EVERY)
            self._wake.clear()

    def _step(self) -> bool:
        """Move towards the state that the store describes. Returns whether no further step can bring it closer."""
        aspired = self._generation_watcher.aspired(self._model)
        self._manager.aspire({candidate.version: self._loader(candidate) for candidate in self._wanted(aspired)})
        states = self._manager.states()
        if _is(states, aspired.serving, State.AVAILABLE):
            self._serve(aspired.serving)
            settled = True
        elif _is(states, aspired.serving, State.END) or self._late:
            settled = self._serving is not None or self._serve_instead(aspired, states)
        else:
            settled = False
        self._vitals.beat(
            generation=aspired.generation,
            preparing=aspired.preparing_since,
            serving=self._manager.serving,
            fallback=self._generation_watcher.fallback_version(self._model),
            loaded={version: str(found.state) for version, found in states.items() if found.state is not State.END},
            errors={version: found.error for version, found in states.items() if found.error},
        )
        return settled

    def _wanted(self, aspired: Aspired) -> list[Candidate]:
        now = self._clock()
        self._leaving = {version: left for version, left in self._leaving.items() if left[1] > now}
        wanted = [aspired.serving]
        if self._serving is None and (aspired.serving.version in self._failed or self._late):
            wanted += aspired.instead
        if now - self._failed.get(aspired.serving.version, now) > TRY_AGAIN:
            del self._failed[aspired.serving.version]
            wanted.remove(aspired.serving)  # the manager drops it in this step, and loads it anew in the next
        if aspired.preparing:
            wanted.append(aspired.preparing)
        if self._serving:
            wanted.append(self._serving)
        return wanted + [candidate for candidate, _ in self._leaving.values()]

    def _loader(self, candidate: Candidate) -> LoaderFactory[ServableT]:
        def make() -> FolderLoader[ServableT]:
            if self._serving is None:
                return FolderLoader(self._open, candidate, unthrottled)
            return FolderLoader(beside_serving(self._open), candidate, LoadThrottle().pause)

        return make

    @contextmanager
    def _load_slot(self) -> Iterator[None]:
        """The context of a load: one at a time in this worker, and beside serving one at a time in all workers of the model."""
        # Within a worker, too, loads run one after the other: mlflow passes a loaded model on in a global variable.
        acquired = self._loading.acquire(timeout=PATIENCE)
        try:
            with load_lock(self._lock_folder, PATIENCE) if self._serving else nullcontext():
                yield
        finally:
            if acquired:
                self._loading.release()

    def _serve(self, candidate: Candidate) -> None:
        before = self._serving
        if before == candidate:
            return
        self._manager.serve(candidate.version)
        self._serving = candidate
        self._leaving.pop(candidate.version, None)
        if before is not None:
            self._leaving[before.version] = (before, self._clock() + LINGER)
            SWAPS.labels(self._model).inc()
        logger.info("{} serves {}, before: {}", self._model, candidate.version, before.version if before else "nothing")

    def _serve_instead(self, aspired: Aspired, states: Mapping[str, ServableState]) -> bool:
        """At the start, serve the first version of `aspired.instead` that can be loaded. Returns whether one serves.

        Raises NoVersionError if none can be loaded, or if another worker of this service has loaded the version that should
        serve: the parent then restarts this worker until it has that version too, and it takes no batches meanwhile.
        """
        if self._ahead(aspired.serving, here=True):
            raise NoVersionError(f"other workers could load {self._model}:{aspired.serving.version}, this one could not")
        for candidate in aspired.instead:
            if _is(states, candidate, State.AVAILABLE):
                logger.error("{} serves {} instead of {}", self._model, candidate.version, aspired.serving.version)
                self._serve(candidate)
                return True
            if not _is(states, candidate, State.END):
                return False
        if self._late:
            return False
        raise NoVersionError("; ".join(f"{state.id}: {state.error}" for state in states.values()))

    def _end_where_others_are_ahead(self) -> None:
        """End this worker if it does not serve the activated version `GRACE` seconds after others do: a new one will load it.

        A worker that is still loading ends once any other worker has the version. A worker whose load failed ends only if
        another worker of its own service has it; else it keeps serving the version that it has.
        """
        target = self._generation_watcher.aspired(self._model).serving
        if self._serving == target:
            self._behind_since = None
            return
        now = self._clock()
        self._behind_since = self._behind_since or now
        if now - self._behind_since > GRACE and self._ahead(target, here=target.version in self._failed):
            self._vitals.end(f"it could not load {self._model}:{target.version}, which others serve")

    def _end_when_all_loads_are_stuck(self) -> None:
        """End this worker if loads of versions that are no longer wanted occupy all load slots for `PATIENCE` seconds."""
        stuck = self._manager.unwanted_loads
        if stuck < PARALLEL_LOADS:
            self._stuck_since = None
            return
        now = self._clock()
        self._stuck_since = self._stuck_since or now
        if now - self._stuck_since > PATIENCE:
            self._vitals.end(f"{stuck} loads of {self._model} are stuck")

    def _end_when_a_batch_is_stuck(self) -> None:
        """End this worker if a version that no longer serves is past the deadline with a batch: it may occupy a core."""
        me, aspired = self._vitals.latest, self._generation_watcher.aspired(self._model)
        wanted = {candidate.version for candidate in (aspired.serving, aspired.preparing, self._serving) if candidate}
        if me.busy_since != self._batch:
            self._batch, self._batch_seen = me.busy_since, self._clock()
        late = self._clock() - self._batch_seen > settings().deadline_seconds
        if me.busy_since and me.busy_with not in wanted and late:
            self._vitals.end(f"{self._model}:{me.busy_with} does not finish a batch", LAST_ANSWERS)

    def _ahead(self, target: Candidate, *, here: bool) -> bool:
        """Whether another worker has `target` in memory; with `here`, another worker of this service."""
        mine = self._vitals.latest.service
        return any(
            other.role == self._model and other.prepared(target.version) and (not here or other.service == mine)
            for other in self._vitals.others()
        )

    def _note(self, event: ServableState) -> None:
        """Log and count an event of the manager. Called from its threads."""
        match event:
            case ServableState(state=State.LOADING, error=None):
                LOADS.labels(self._model).inc()
            case ServableState(state=State.UNLOADING, error=str()):
                logger.error("{} could not be unloaded cleanly: {}", event.id, event.error)
            case ServableState(state=State.LOADING):
                logger.warning("{} could not be loaded and will be tried again: {}", event.id, event.error)
            case ServableState(state=State.AVAILABLE):
                self._failed.pop(event.id.version, None)
                LOADED.labels(self._model).inc()
                logger.info("{} is loaded", event.id)
            case ServableState(state=State.END, error=str()):
                self._failed[event.id.version] = self._clock()
                logger.error("{} could not be loaded: {}", event.id, event.error)
            case _:
                logger.debug("{}: {}", event.id, event.state)
        self._wake.set()


def _is(states: Mapping[str, ServableState], candidate: Candidate, state: State) -> bool:
    found = states.get(candidate.version)
    return found is not None and found.state is state
