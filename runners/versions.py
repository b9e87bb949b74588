"""The versions of one model in one worker: follows the store, loads beside serving, swaps, and says how it is."""

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
from bunriwiki.telemetry.metrics import LOADED, LOADS, SWAPS
from bunriwiki.telemetry.vitals import Vitals
from runners.folder_loader import FolderLoader, ServableT
from runners.throttle import LoadThrottle, no_rest, turn

START_SECONDS = 60.0  # within which a worker has to load a version; after half of it, another one than it should
LINGER = 2.0  # seconds that a version stays after a swap, for gateways that have not noticed yet
GRACE = 0.5  # seconds that a worker may be behind one that has followed a activate
PATIENCE = 10.0  # seconds that a worker waits for its turn to load
TRY_AGAIN = 60.0  # seconds after which what serves is tried again where it could not be loaded
LAST_ANSWERS = 3.0  # seconds for a worker with a stuck batch to answer others before it ends


class NoVersionError(Exception):
    """No version could be loaded, not even the fallback. The message has the reasons."""


class Versions(Generic[ServableT]):
    """Keeps what `generation_watcher` says should be in memory, in memory, and serving what it says should serve.

    One that cannot be loaded does not take away what serves. A worker that lags behind a activate, while another one has the
    new version, ends itself to be started again. At its start a worker that cannot load what should serve takes the version
    before it, then the fallback.
    """

    def __init__(
        self, model: str, open_version: Callable[[Path], ServableT], generation_watcher: GenerationWatcher, vitals: Vitals
    ) -> None:
        self._model = model
        self._open = open_version
        self._generation_watcher = generation_watcher
        self._vitals = vitals
        self._manager: Manager[ServableT] = Manager(model, listener=self._note, pauses=PAUSES, within=self._turn)
        self._turns = generation_watcher.fallback(model)
        self._one_at_a_time = threading.Lock()
        self._wake = threading.Event()
        self._serving: Candidate | None = None
        self._leaving: dict[str, tuple[Candidate, float]] = {}  # what served until lately, and until when it stays
        self._failed: dict[str, float] = {}  # when a version was given up
        self._behind_since: float | None = None
        self._stuck_since: float | None = None
        self._late = False

    def start(self) -> None:
        """Load what should serve, and follow from then on. Blocks until a version serves. Raises NoVersionError."""
        gc.freeze()  # what is here now stays: an unload need not look through it while requests wait
        self._generation_watcher.refresh()
        self._generation_watcher.start(self._wake.set)
        begun = time.monotonic()
        while not self._step():
            waited = time.monotonic() - begun
            self._late = waited > START_SECONDS / 2
            if waited > START_SECONDS:
                raise NoVersionError(f"no version of {self._model} was loaded within {START_SECONDS:g} s")
            self._wake.wait(EVERY)
            self._wake.clear()
        self._vitals.ready()
        threading.Thread(target=self._run, name=f"follow {self._model}", daemon=True).start()

    def stop(self) -> None:
        """This worker ends: nobody should wait for it."""
        self._generation_watcher.stop()
        self._vitals.leave()

    def handle(self, version: str) -> Handle[ServableT]:
        """A handle to `version`. Raises NotAvailableError."""
        return self._manager.handle(version)

    @property
    def serving(self) -> str:
        """The version that this worker would answer with by itself."""
        return self._manager.serving or ""

    def _run(self) -> None:
        while self._vitals.latest.state != "ending":
            try:
                self._step()
                self._end_where_others_are_ahead()
                self._end_when_all_loads_are_stuck()
                self._end_when_a_batch_is_stuck()
                self._vitals.check_memory()
            except Exception:  # whatever is wrong with the store: what serves, serves on
                logger.exception("{} could not follow the store", self._model)
            self._wake.wait(EVERY)
            self._wake.clear()

    def _step(self) -> bool:
        """One step towards what should be; whether this worker has come as far as it can."""
        aspired = self._generation_watcher.aspired(self._model)
        self._manager.aspire({one.version: self._loader(one) for one in self._wanted(aspired)})
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
            loaded={version: str(one.state) for version, one in states.items() if one.state is not State.END},
            errors={version: one.error for version, one in states.items() if one.error},
        )
        return settled

    def _wanted(self, aspired: Aspired) -> list[Candidate]:
        now = time.monotonic()
        self._leaving = {version: one for version, one in self._leaving.items() if one[1] > now}
        wanted = [aspired.serving]
        if self._serving is None and (aspired.serving.version in self._failed or self._late):
            wanted += aspired.instead
        if now - self._failed.get(aspired.serving.version, now) > TRY_AGAIN:
            del self._failed[aspired.serving.version]
            wanted.remove(aspired.serving)  # the manager forgets it in this step, and tries it anew in the next
        if aspired.preparing:
            wanted.append(aspired.preparing)
        if self._serving:
            wanted.append(self._serving)
        return wanted + [candidate for candidate, _ in self._leaving.values()]

    def _loader(self, candidate: Candidate) -> LoaderFactory[ServableT]:
        def make() -> FolderLoader[ServableT]:
            return FolderLoader(self._open, candidate, LoadThrottle().rest if self._serving else no_rest)

        return make

    @contextmanager
    def _turn(self) -> Iterator[None]:
        # Within a worker loads take turns too: mlflow hands a model over in a global. At the start nothing serves that a load
        # could be in the way of, so workers do not wait for each other.
        mine = self._one_at_a_time.acquire(timeout=PATIENCE)
        try:
            with turn(self._turns, PATIENCE) if self._serving else nullcontext():
                yield
        finally:
            if mine:
                self._one_at_a_time.release()

    def _serve(self, candidate: Candidate) -> None:
        before = self._serving
        if before == candidate:
            return
        self._manager.serve(candidate.version)
        self._serving = candidate
        self._leaving.pop(candidate.version, None)
        if before is not None:
            self._leaving[before.version] = (before, time.monotonic() + LINGER)
            SWAPS.labels(self._model).inc()
        logger.info("{} serves {}, before: {}", self._model, candidate.version, before.version if before else "nothing")

    def _serve_instead(self, aspired: Aspired, states: Mapping[str, ServableState]) -> bool:
        """Serve the best of what there is instead of what should serve; whether that is done.

        Raises NoVersionError when nothing can, and when another worker of this service does have what should serve: this one is
        started again until it has it too, and takes no batches meanwhile.
        """
        if self._ahead(aspired.serving, here=True):
            raise NoVersionError(f"other workers could load {self._model}:{aspired.serving.version}, this one could not")
        for one in aspired.instead:
            if _is(states, one, State.AVAILABLE):
                logger.error("{} serves {} instead of {}", self._model, one.version, aspired.serving.version)
                self._serve(one)
                return True
            if not _is(states, one, State.END):
                return False
        if self._late:
            return False
        raise NoVersionError("; ".join(f"{state.id}: {state.error}" for state in states.values()))

    def _end_where_others_are_ahead(self) -> None:
        """End this worker when it cannot follow a activate, while others have: a new one will load what serves.

        One that is still loading goes as soon as any worker is ahead. One that has failed goes only where another worker of its
        own service answers; else what it has serves on.
        """
        target = self._generation_watcher.aspired(self._model).serving
        if self._serving == target:
            self._behind_since = None
            return
        now = time.monotonic()
        self._behind_since = self._behind_since or now
        if now - self._behind_since > GRACE and self._ahead(target, here=target.version in self._failed):
            self._vitals.end(f"it could not load {self._model}:{target.version}, which others serve")

    def _end_when_all_loads_are_stuck(self) -> None:
        """End this worker when loads that nobody wants any more leave no room for others."""
        stuck = self._manager.unwanted_loads
        if stuck < PARALLEL_LOADS:
            self._stuck_since = None
            return
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        if now - self._stuck_since > PATIENCE:
            self._vitals.end(f"{stuck} loads of {self._model} are stuck")

    def _end_when_a_batch_is_stuck(self) -> None:
        """End this worker when a version that should answer no more does not let go of a thread, which may take a core."""
        me, aspired = self._vitals.latest, self._generation_watcher.aspired(self._model)
        wanted = {one.version for one in (aspired.serving, aspired.preparing, self._serving) if one}
        if me.busy_since and me.busy_with not in wanted and time.time() - me.busy_since > settings().deadline_seconds:
            self._vitals.end(f"{self._model}:{me.busy_with} does not come to an end with a batch", LAST_ANSWERS)

    def _ahead(self, target: Candidate, *, here: bool) -> bool:
        """Whether another worker has `target`; `here`: one of this service."""
        mine = self._vitals.latest.service
        return any(
            one.role == self._model and one.prepared(target.version) and (not here or one.service == mine)
            for one in self._vitals.others()
        )

    def _note(self, event: ServableState) -> None:
        """What the manager reports, from its threads."""
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
                self._failed[event.id.version] = time.monotonic()
                logger.error("{} could not be loaded: {}", event.id, event.error)
            case _:
                logger.debug("{}: {}", event.id, event.state)
        self._wake.set()


def _is(states: Mapping[str, ServableState], candidate: Candidate, state: State) -> bool:
    found = states.get(candidate.version)
    return found is not None and found.state is state
