"""The manager: loads and unloads the versions of one model until the aspired versions are in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bunriwiki.lifecycle.handle import Handle
from bunriwiki.lifecycle.loader import Loader
from bunriwiki.lifecycle.policy import ActionKind, AspiredVersionPolicy, Snapshot, preserve_availability
from bunriwiki.lifecycle.servable import ServableId, ServableState, State

ServableT = TypeVar("ServableT")

LoaderFactory = Callable[[], Loader[ServableT]]
Listener = Callable[[ServableState], None]

PARALLEL_LOADS = 2
PAUSES = (1.0, 4.0)  # seconds before the second and the third try to load a version


class NotAvailableError(Exception):
    """The requested version is not available."""


@dataclass(eq=False, slots=True)
class _Managed(Generic[ServableT]):
    """A version and its state. All mutable fields are guarded by the manager's lock."""

    id: ServableId
    make_loader: LoaderFactory[ServableT]
    state: State = State.START
    error: str | None = None
    loader: Loader[ServableT] | None = None
    handles: int = 0
    withdrawn: bool = False
    busy: bool = False  # a thread loads or unloads it
    unwanted: threading.Event = field(default_factory=threading.Event)  # set once it is no longer aspired: no more tries


class Manager(Generic[ServableT]):
    """Keeps the aspired versions of a model in memory. Safe to use from many threads.

    Guarantees, for every order of calls and every failure:

    - A hot swap changes one reference under one lock: calls that began on the old version finish on it, later calls get the new
      version.
    - The serving version is withdrawn only after another version serves, or if no version is aspired any more.
    - No version is unloaded while it is aspired or while a handle to it is open.
    - `load`, `warm_up` and `unload` of a version are called on one loader, one after the other, on a thread of their own. At
      most `parallel_loads` loads run at once, so a load that hangs does not keep a newer version from being loaded.
    - A load that fails is tried again after each of `pauses` seconds. Then the version ends with its error, and is not tried
      again until it was not aspired in between.
    - AVAILABLE is reported after the version can be used, UNLOADING before it is withdrawn, END after its memory was freed.

    Each try to load a version runs in a context that `within` returns, on the thread of the load. `listener` is called from the
    manager's threads, in order for each version; it must not block.
    """

    def __init__(
        self,
        name: str,
        *,
        listener: Listener = lambda _: None,
        policy: AspiredVersionPolicy = preserve_availability,
        parallel_loads: int = PARALLEL_LOADS,
        pauses: tuple[float, ...] = PAUSES,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.name = name
        self._listener = listener
        self._policy = policy
        self._parallel_loads = parallel_loads
        self._pauses = pauses
        self._within = within
        self._changed = threading.Condition()  # the one lock
        self._aspired: tuple[str, ...] = ()
        self._managed: dict[str, _Managed[ServableT]] = {}
        self._serving: _Managed[ServableT] | None = None
        self._loads = 0

    def aspire(self, versions: Mapping[str, LoaderFactory[ServableT]]) -> None:
        """Have exactly these versions in memory, loaded in this order. Returns at once."""
        with self._changed:
            self._aspired = tuple(versions)
            for version, make_loader in versions.items():
                if version not in self._managed:
                    self._managed[version] = _Managed(ServableId(self.name, version), make_loader)
            for version, managed in list(self._managed.items()):
                if version not in versions:
                    managed.unwanted.set()
                    if managed.state in (State.START, State.END) and not managed.busy:
                        del self._managed[version]
            self._act()

    def serve(self, version: str) -> None:
        """Have `version` answer calls that name no version. Raises NotAvailableError if it is not available."""
        with self._changed:
            managed = self._available(version)
            if managed.state is State.UNLOADING:
                raise NotAvailableError(f"{managed.id} is being unloaded")
            self._serving = managed
            self._act()

    @property
    def serving(self) -> str | None:
        """The version that answers calls that name no version."""
        with self._changed:
            return self._serving.id.version if self._serving else None

    def handle(self, version: str | None = None) -> Handle[ServableT]:
        """A handle to `version`, or to the serving version. Raises NotAvailableError."""
        with self._changed:
            managed = self._serving if version is None else self._available(version)
            if managed is None or managed.loader is None:
                raise NotAvailableError(f"no version of {self.name} serves")
            managed.handles += 1
            return Handle(managed.id, managed.loader.servable, lambda: self._release(managed))

    def states(self) -> dict[str, ServableState]:
        """The state of every version that is aspired or still in memory."""
        with self._changed:
            return {version: _state(managed) for version, managed in self._managed.items()}

    @property
    def unwanted_loads(self) -> int:
        """The number of running loads of versions that are no longer aspired. They count towards `parallel_loads`."""
        with self._changed:
            return sum(managed.state is State.LOADING and managed.unwanted.is_set() for managed in self._managed.values())

    def wait(self, until: Callable[[Manager[ServableT]], bool], seconds: float) -> bool:
        """Wait until `until`, which is called after every change, is true; returns False after `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: until(self), seconds)

    def stop(self, seconds: float) -> bool:
        """Unload all versions; returns False if that takes longer than `seconds`."""
        self.aspire({})
        return self.wait(lambda _: not self._managed, seconds)

    def _available(self, version: str) -> _Managed[ServableT]:
        managed = self._managed.get(version)
        if managed is None or managed.loader is None or managed.withdrawn:
            raise NotAvailableError(f"{self.name}:{version} is not available")
        return managed

    def _release(self, managed: _Managed[ServableT]) -> None:
        with self._changed:
            managed.handles -= 1
            self._changed.notify_all()

    def _act(self) -> None:
        """Start the actions that the policy returns, up to the limit of parallel loads. The lock is held."""
        while action := self._policy(self._snapshots()):
            managed = self._managed[action.version]
            if action.kind is ActionKind.LOAD:
                if self._loads >= self._parallel_loads:
                    break
                self._loads += 1
                managed.state = State.LOADING
                self._run(self._load, managed)
            else:
                managed.state = State.UNLOADING
                self._run(self._unload, managed)
        self._changed.notify_all()

    def _snapshots(self) -> list[Snapshot]:
        place = {version: number for number, version in enumerate(self._aspired)}
        ordered = sorted(self._managed.values(), key=lambda managed: place.get(managed.id.version, len(place)))
        return [
            Snapshot(
                managed.id.version,
                _reported_state(managed),
                aspired=managed.id.version in place,
                serves=managed is self._serving,
            )
            for managed in ordered
        ]

    def _run(self, work: Callable[[_Managed[ServableT]], None], managed: _Managed[ServableT]) -> None:
        managed.busy = True
        # A daemon thread: a load that hangs must not keep the process from ending.
        threading.Thread(target=work, args=(managed,), name=f"{work.__name__} {managed.id}", daemon=True).start()

    def _load(self, managed: _Managed[ServableT]) -> None:
        self._listener(ServableState(managed.id, State.LOADING))
        loader = self._try_to_load(managed)
        with self._changed:
            managed.loader = loader
            managed.state = State.AVAILABLE if loader else State.END
            self._loads -= 1
            reached = _state(managed)
        self._listener(reached)
        with self._changed:
            managed.busy = False
            if loader is None and (managed.unwanted.is_set() or managed.id.version not in self._aspired):
                self._forget(managed)
            self._act()

    def _try_to_load(self, managed: _Managed[ServableT]) -> Loader[ServableT] | None:
        for pause in (*self._pauses, None):
            try:
                with self._within():
                    loader = managed.make_loader()
                    loader.load()
                    loader.warm_up()
            except Exception as error:  # the model's own code may raise anything
                reason = f"{type(error).__name__}: {error}"
                with self._changed:
                    managed.error = reason
                    self._changed.notify_all()
                if pause is None:
                    break
                self._listener(ServableState(managed.id, State.LOADING, reason))
                if managed.unwanted.wait(pause):
                    break
            else:
                with self._changed:
                    managed.error = None
                return loader
        return None

    def _unload(self, managed: _Managed[ServableT]) -> None:
        self._listener(ServableState(managed.id, State.UNLOADING))
        with self._changed:
            managed.withdrawn = True
            if self._serving is managed:
                self._serving = None
            self._changed.notify_all()
            self._changed.wait_for(lambda: managed.handles == 0)
            loader = managed.loader
            managed.loader = None
        if loader is not None:
            try:
                loader.unload()
            except Exception as error:  # the version is dropped in any case
                reason = f"{type(error).__name__}: {error}"
                self._listener(ServableState(managed.id, State.UNLOADING, reason))
            del loader
        with self._changed:
            managed.state = State.END
            ended = _state(managed)
        self._listener(ended)
        with self._changed:
            self._forget(managed)
            self._act()

    def _forget(self, managed: _Managed[ServableT]) -> None:
        """Drop a version that has ended; if it was aspired again meanwhile, start again. The lock is held."""
        del self._managed[managed.id.version]
        if managed.id.version in self._aspired:
            self._managed[managed.id.version] = _Managed(managed.id, managed.make_loader)


def _reported_state(managed: _Managed[ServableT]) -> State:
    """The state for the policy: LOADING until AVAILABLE was reported, so that no version is unloaded before that."""
    return State.LOADING if managed.busy and managed.state is State.AVAILABLE else managed.state


def _state(managed: _Managed[ServableT]) -> ServableState:
    return ServableState(managed.id, managed.state, managed.error)
