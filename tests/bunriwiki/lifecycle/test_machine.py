"""The guarantees of the manager, for loads, hot swaps, failures and unloads in any order."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from bunriwiki.lifecycle.handle import Handle
from bunriwiki.lifecycle.manager import Manager, NotAvailableError
from bunriwiki.lifecycle.servable import ServableState, State
from tests.bunriwiki.lifecycle.fakes import FakeLoader, Servable

pytestmark = pytest.mark.slow  # 200 examples, each with threads

VERSIONS = st.sampled_from(["1", "2", "3"])
ORDER = {
    State.LOADING: {State.LOADING, State.AVAILABLE, State.END},
    State.AVAILABLE: {State.UNLOADING},
    State.UNLOADING: {State.END},
    State.END: {State.LOADING},
}
SECONDS = 10


class Gate:
    """Where loads of a version wait, and whether they fail then."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.fails = False


class GatedLoader(FakeLoader):
    """Waits until the gate of its version opens, and then loads or fails."""

    def __init__(self, version: str, gate: Gate) -> None:
        super().__init__(version, [])
        self.gate = gate

    def load(self) -> None:
        assert self.gate.open.wait(SECONDS)
        if self.gate.fails:
            raise ValueError("told to fail")
        super().load()


class ManagerMachine(RuleBasedStateMachine):
    """Drives a manager; a gate for each version decides when and how its loads end."""

    handles = Bundle("handles")

    @initialize()
    def start(self) -> None:
        self.events: dict[str, list[State]] = {}
        self.gates = {version: Gate() for version in ("1", "2", "3")}
        self.aspired: set[str] = set()
        self.open: list[Handle[Servable]] = []
        self.manager: Manager[Servable] = Manager("m", listener=self.note, pauses=(0.0,))

    def note(self, event: ServableState) -> None:
        self.events.setdefault(event.id.version, []).append(event.state)

    @rule(versions=st.lists(VERSIONS, unique=True))
    def aspire(self, versions: list[str]) -> None:
        self.aspired = set(versions)
        self.manager.aspire({version: lambda v=version: GatedLoader(v, self.gates[v]) for version in versions})  # type: ignore[misc]

    @rule(version=VERSIONS, fails=st.booleans())
    def let_load(self, version: str, fails: bool) -> None:
        self.gates[version].fails = fails
        self.gates[version].open.set()

    @rule(version=VERSIONS)
    def hold_back(self, version: str) -> None:
        self.gates[version].open.clear()

    @rule(version=VERSIONS)
    def swap(self, version: str) -> None:
        try:
            self.manager.serve(version)
        except NotAvailableError:
            return
        # Another version serves only after `serve`, or if no version is aspired.
        assert self.manager.serving == version or not self.aspired

    @rule(target=handles, version=st.none() | VERSIONS)
    def call(self, version: str | None) -> Handle[Servable] | None:
        try:
            handle = self.manager.handle(version)
        except NotAvailableError:
            return None
        self.open.append(handle)
        return handle

    @rule(handle=consumes(handles))
    def drain(self, handle: Handle[Servable] | None) -> None:
        if handle in self.open:
            self.open.remove(handle)
            handle.close()

    @rule()
    def settle(self) -> None:
        """With all gates open and all handles closed, the manager reaches the aspired state."""
        for gate in self.gates.values():
            gate.open.set()
        while self.open:
            self.open[0].close()
            self.open.pop(0)
        assert self.manager.wait(lambda _: self.at_rest(), SECONDS), self.manager.states()

    def at_rest(self) -> bool:
        states = self.manager.states()
        settled = all(state.state in (State.AVAILABLE, State.END) for state in states.values())
        return settled and set(states) - {self.manager.serving} <= self.aspired <= set(states)

    @invariant()
    def open_handles_answer(self) -> None:
        for handle in self.open:
            assert handle.servable.answer() == handle.id.version

    @invariant()
    def what_serves_answers(self) -> None:
        serving = self.manager.states().get(self.manager.serving or "")
        if serving is not None and serving.state is not State.UNLOADING and self.aspired:
            with self.manager.handle() as handle:
                assert handle.servable.answer() == serving.id.version

    def teardown(self) -> None:
        if hasattr(self, "manager"):
            self.settle()
            assert self.manager.stop(SECONDS)
            for events in self.events.values():
                for state, following in itertools.pairwise(events):
                    assert following in ORDER[state], events


ManagerMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestManager = ManagerMachine.TestCase
