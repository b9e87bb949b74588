from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bunriwiki.lifecycle.manager import Manager, NotAvailableError
from bunriwiki.lifecycle.servable import ServableId, ServableState, State
from tests.bunriwiki.lifecycle.fakes import FailingModel, FakeLoader, LeakyModel, Servable, SlowModel, plain

SECONDS = 10  # that everything here may take at most, on a busy machine

MakeManager = Callable[..., Manager[Servable]]


@pytest.fixture
def events() -> list[ServableState]:
    return []


@pytest.fixture
def make_manager(events: list[ServableState]) -> Iterator[MakeManager]:
    managers: list[Manager[Servable]] = []

    def make(pauses: tuple[float, ...] = (0.0, 0.0), parallel_loads: int = 2) -> Manager[Servable]:
        managers.append(Manager("m", listener=events.append, pauses=pauses, parallel_loads=parallel_loads))
        return managers[-1]

    yield make
    for manager in managers:
        assert manager.stop(SECONDS)


def state(version: str, *states: State) -> Callable[[Manager[Servable]], bool]:
    """A condition: `version` is in one of `states`; without a state it counts as END."""

    def check(manager: Manager[Servable]) -> bool:
        found = manager.states().get(version)
        return (found.state if found else State.END) in states

    return check


def serving(manager: Manager[Servable], version: str) -> None:
    """Bring `manager` to serve `version`, and nothing else."""
    manager.aspire({version: plain(version)})
    assert manager.wait(state(version, State.AVAILABLE), SECONDS)
    manager.serve(version)


def answer(manager: Manager[Servable], version: str | None = None) -> str:
    with manager.handle(version) as handle:
        return handle.servable.answer()


def test_a_load_that_hangs_does_not_keep_the_process_from_ending(make_manager: MakeManager) -> None:
    manager, may_load = make_manager(), threading.Event()
    before = threading.enumerate()
    manager.aspire({"1": lambda: SlowModel("1", [], may_load)})
    assert [(thread.name, thread.daemon) for thread in threading.enumerate() if thread not in before] == [("_load m:1", True)]
    may_load.set()


def test_a_version_is_loaded_and_unloaded(make_manager: MakeManager, events: list[ServableState]) -> None:
    manager = make_manager()
    calls: list[str] = []
    manager.aspire({"1": plain("1", calls)})
    assert manager.wait(state("1", State.AVAILABLE), SECONDS)
    manager.serve("1")
    assert answer(manager) == answer(manager, "1") == "1"
    manager.aspire({})
    assert manager.wait(state("1", State.END), SECONDS)
    assert calls == ["load", "warm_up", "unload"]
    assert [event.state for event in events] == [State.LOADING, State.AVAILABLE, State.UNLOADING, State.END]
    assert {event.id for event in events} == {ServableId("m", "1")}
    assert manager.serving is None
    for version in (None, "1"):
        with pytest.raises(NotAvailableError):
            manager.handle(version)


def test_no_version_serves_before_serve_is_called(make_manager: MakeManager) -> None:
    manager = make_manager()
    manager.aspire({"1": plain("1")})
    assert manager.wait(state("1", State.AVAILABLE), SECONDS)
    with pytest.raises(NotAvailableError, match="no version of m serves"):
        manager.handle()
    with pytest.raises(NotAvailableError, match="m:2 is not available"):
        manager.serve("2")


def test_a_hot_swap(make_manager: MakeManager) -> None:
    manager = make_manager()
    serving(manager, "1")
    before = manager.handle()
    manager.aspire({"2": plain("2")})
    assert manager.wait(state("2", State.AVAILABLE), SECONDS)
    assert answer(manager) == "1"
    manager.serve("2")
    assert answer(manager) == "2"
    assert before.servable.answer() == "1"  # a call finishes on the version that it began with
    assert manager.wait(lambda _: _withdrawn(manager, "1"), SECONDS)
    assert manager.states()["1"].state is State.UNLOADING
    before.close()
    assert manager.wait(state("1", State.END), SECONDS)


def _withdrawn(manager: Manager[Servable], version: str) -> bool:
    try:
        manager.handle(version).close()
    except NotAvailableError:
        return True
    return False


def test_the_serving_version_is_kept_while_its_successor_loads_or_fails(make_manager: MakeManager) -> None:
    manager = make_manager()
    serving(manager, "1")
    may_load = threading.Event()
    manager.aspire({"2": lambda: SlowModel("2", [], may_load)})
    assert answer(manager) == "1"
    manager.aspire({"3": lambda: FailingModel("3", [], [ValueError("broken")] * 3)})
    assert manager.wait(state("3", State.END), SECONDS)
    assert answer(manager) == "1"
    may_load.set()
    assert manager.wait(state("2", State.END), SECONDS)
    assert answer(manager) == "1"


@pytest.mark.parametrize("at", ["load", "warm_up"])
def test_a_load_is_tried_again(make_manager: MakeManager, events: list[ServableState], at: str) -> None:
    manager = make_manager()
    calls: list[str] = []
    failures: list[Exception] = [OSError("disk"), OSError("disk again")]
    manager.aspire({"1": lambda: FailingModel("1", calls, failures, at=at)})
    assert manager.wait(state("1", State.AVAILABLE), SECONDS)
    assert calls.count("load") == 3
    assert [(event.state, event.error) for event in events] == [
        (State.LOADING, None),
        (State.LOADING, "OSError: disk"),
        (State.LOADING, "OSError: disk again"),
        (State.AVAILABLE, None),
    ]


def test_a_load_that_fails_three_times_is_reported_and_not_tried_again(make_manager: MakeManager) -> None:
    manager = make_manager()
    calls: list[str] = []
    failures: list[Exception] = [OSError("disk")] * 3
    aspired = {"1": lambda: FailingModel("1", calls, failures)}
    manager.aspire(aspired)
    assert manager.wait(state("1", State.END), SECONDS)
    assert manager.states()["1"].error == "OSError: disk"
    manager.aspire(aspired)
    assert calls == ["load"] * 3
    manager.aspire({})
    assert manager.states() == {}
    manager.aspire(aspired)  # aspired again, it is tried again
    assert manager.wait(state("1", State.AVAILABLE), SECONDS)


def test_a_version_that_is_no_longer_aspired_is_not_tried_again(make_manager: MakeManager) -> None:
    manager = make_manager(pauses=(SECONDS * 10,))
    calls: list[str] = []
    manager.aspire({"1": lambda: FailingModel("1", calls, [OSError("disk")])})
    assert manager.wait(lambda it: it.states()["1"].error is not None, SECONDS)
    manager.aspire({})
    assert manager.wait(lambda it: not it.states(), SECONDS)
    assert calls == ["load"]


def test_a_version_aspired_again_during_its_last_try_is_tried_again(make_manager: MakeManager) -> None:
    manager = make_manager()
    may_load = threading.Event()
    failures: list[Exception] = [OSError("disk")]

    def make_loader() -> FakeLoader:
        assert may_load.wait(SECONDS)
        return FailingModel("1", [], failures)

    manager.aspire({"1": make_loader})
    manager.aspire({})  # ends the tries
    manager.aspire({"1": make_loader})
    may_load.set()
    assert manager.wait(state("1", State.AVAILABLE), SECONDS)


def test_a_version_whose_unload_was_reported_cannot_serve() -> None:
    rejections: list[str] = []

    def serve_it(event: ServableState) -> None:
        if event.state is State.UNLOADING:
            with pytest.raises(NotAvailableError) as caught:
                manager.serve("1")
            rejections.append(str(caught.value))

    manager: Manager[Servable] = Manager("m", listener=serve_it)
    serving(manager, "1")
    assert manager.stop(SECONDS)
    assert rejections == ["m:1 is being unloaded"]


def test_a_version_is_not_unloaded_before_it_was_reported_as_available() -> None:
    seen: list[State] = []

    def withdraw(event: ServableState) -> None:
        if event.state is State.AVAILABLE:
            manager.aspire({})
            seen.append(manager.states()["1"].state)

    manager: Manager[Servable] = Manager("m", listener=withdraw)
    manager.aspire({"1": plain("1")})
    assert manager.wait(lambda it: not it.states(), SECONDS)
    assert seen == [State.AVAILABLE]


def test_a_version_aspired_again_while_it_is_unloaded_is_loaded_again(make_manager: MakeManager) -> None:
    manager = make_manager()
    serving(manager, "1")
    handle = manager.handle()
    manager.aspire({"2": plain("2")})
    assert manager.wait(state("2", State.AVAILABLE), SECONDS)
    manager.serve("2")
    assert manager.wait(lambda _: _withdrawn(manager, "1"), SECONDS)
    manager.aspire({"2": plain("2"), "1": plain("1")})
    with pytest.raises(NotAvailableError):
        manager.serve("1")
    handle.close()
    assert manager.wait(state("1", State.AVAILABLE), SECONDS)
    manager.serve("1")
    assert answer(manager) == "1"


def test_a_load_that_hangs_does_not_block_a_newer_version(make_manager: MakeManager) -> None:
    manager = make_manager()
    serving(manager, "1")
    may_load = threading.Event()
    manager.aspire({"1": plain("1"), "2": lambda: SlowModel("2", [], may_load)})
    assert manager.unwanted_loads == 0
    manager.aspire({"1": plain("1"), "3": plain("3")})
    assert manager.wait(state("3", State.AVAILABLE), SECONDS)
    assert manager.unwanted_loads == 1
    may_load.set()
    assert manager.wait(lambda it: it.unwanted_loads == 0, SECONDS)


def test_loads_are_limited_and_in_order(make_manager: MakeManager) -> None:
    manager = make_manager(parallel_loads=1)
    gates = {version: threading.Event() for version in "123"}
    manager.aspire({version: lambda v=version, gate=gate: SlowModel(v, [], gate) for version, gate in gates.items()})  # type: ignore[misc]
    for loading, waiting in (("1", "23"), ("2", "3"), ("3", "")):
        assert manager.wait(state(loading, State.LOADING), SECONDS)
        assert all(manager.states()[version].state is State.START for version in waiting)
        gates[loading].set()
        assert manager.wait(state(loading, State.AVAILABLE), SECONDS)


def test_the_versions_that_wait_are_loaded_in_the_order_that_was_aspired_last(make_manager: MakeManager) -> None:
    manager = make_manager(parallel_loads=1)
    gates = {version: threading.Event() for version in "123"}
    makers = {version: lambda v=version, gate=gate: SlowModel(v, [], gate) for version, gate in gates.items()}
    manager.aspire({version: makers[version] for version in "12"})
    manager.aspire({version: makers[version] for version in "132"})
    gates["1"].set()
    assert manager.wait(state("3", State.LOADING), SECONDS)
    assert manager.states()["2"].state is State.START
    gates["2"].set()
    gates["3"].set()


def test_as_many_versions_as_allowed_are_loaded_in_parallel(make_manager: MakeManager) -> None:
    manager = make_manager(parallel_loads=2)
    may_load = threading.Event()
    manager.aspire({version: lambda v=version: SlowModel(v, [], may_load) for version in "123"})  # type: ignore[misc]
    assert [found.state for found in manager.states().values()] == [State.LOADING, State.LOADING, State.START]
    may_load.set()


def test_a_change_is_noticed_while_loads_wait(make_manager: MakeManager) -> None:
    manager = make_manager(parallel_loads=1)
    may_load, waits = threading.Event(), threading.Event()

    def is_loading(it: Manager[Servable]) -> bool:
        waits.set()  # the lock is held until it waits
        return state("1", State.LOADING)(it)

    with ThreadPoolExecutor() as pool:
        noticed = pool.submit(manager.wait, is_loading, 2 * SECONDS)
        assert waits.wait(SECONDS)
        manager.aspire({version: lambda v=version: SlowModel(v, [], may_load) for version in "12"})  # type: ignore[misc]
        assert noticed.result(SECONDS)
    may_load.set()


def test_waiting_ends_after_the_given_time(make_manager: MakeManager) -> None:
    manager = make_manager()
    serving(manager, "1")
    with manager.handle():
        assert not manager.wait(lambda _: False, 0.01)
        assert not manager.stop(0.01)


def test_an_unloaded_version_leaves_no_references(make_manager: MakeManager) -> None:
    manager = make_manager()
    serving(manager, "1")
    handle = manager.handle()
    servable = weakref.ref(handle.servable)
    handle.close()
    manager.aspire({})
    assert manager.wait(state("1", State.END), SECONDS)
    gc.collect()
    assert servable() is None


def test_a_leak_of_a_loader_is_not_extended(make_manager: MakeManager, events: list[ServableState]) -> None:
    manager = make_manager()
    held: list[Servable] = []
    manager.aspire({"1": lambda: LeakyModel("1", [], held)})
    assert manager.wait(state("1", State.AVAILABLE), SECONDS)
    servable = weakref.ref(held[0])
    manager.aspire({"2": plain("2")})
    assert manager.wait(lambda it: set(it.states()) == {"2"}, SECONDS)
    ending = [(event.state, event.error) for event in events if event.id.version == "1"][-3:]
    assert ending == [(State.UNLOADING, None), (State.UNLOADING, "OSError: could not give everything back"), (State.END, None)]
    gc.collect()
    assert servable() is not None
    held.clear()
    gc.collect()
    assert servable() is None


def test_hot_swaps_during_calls_from_many_threads(make_manager: MakeManager) -> None:
    manager = make_manager()
    serving(manager, "0")
    over = threading.Event()
    seen: list[list[int]] = [[] for _ in range(8)]
    failures: list[BaseException] = []

    def call(mine: list[int]) -> None:
        try:
            while not over.is_set():
                mine.append(int(answer(manager)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    calls: dict[int, list[str]] = {}
    for number in range(1, 51):
        version = str(number)
        manager.aspire({version: lambda v=version: FakeLoader(v, calls.setdefault(int(v), []))})  # type: ignore[misc]
        assert manager.wait(state(version, State.AVAILABLE), SECONDS)
        manager.serve(version)
    over.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(mine == sorted(mine) for mine in seen)  # after the new version, the old one is never used again
    assert manager.wait(lambda it: set(it.states()) == {"50"}, SECONDS)
    assert all(calls[number] == ["load", "warm_up", "unload"] for number in range(1, 50))
