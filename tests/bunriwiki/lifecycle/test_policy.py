from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bunriwiki.lifecycle.policy import Action, ActionKind, Snapshot, preserve_availability
from bunriwiki.lifecycle.servable import State


@st.composite
def versions(draw: st.DrawFn) -> list[Snapshot]:
    """Versions in any state; at most one serves, and only one that is available or about to be unloaded."""
    states = draw(st.dictionaries(st.sampled_from("abcde"), st.tuples(st.sampled_from(list(State)), st.booleans())))
    found = [Snapshot(version, state, aspired, serves=False) for version, (state, aspired) in states.items()]
    servers = [index for index, snapshot in enumerate(found) if snapshot.state is State.AVAILABLE]
    if draw(st.booleans()) and servers:
        index = servers[0]
        found[index] = replace(found[index], serves=True)
    return found


def test_nothing_to_do() -> None:
    assert preserve_availability([]) is None
    assert preserve_availability([Snapshot("a", State.AVAILABLE, aspired=True, serves=True)]) is None


def test_a_new_version_is_loaded_beside_the_serving_version() -> None:
    serving = Snapshot("a", State.AVAILABLE, aspired=True, serves=True)
    new = Snapshot("b", State.START, aspired=True, serves=False)
    assert preserve_availability([serving, new]) == Action(ActionKind.LOAD, "b")


def test_the_serving_version_stays_until_another_version_serves() -> None:
    serving = Snapshot("a", State.AVAILABLE, aspired=False, serves=True)
    new = Snapshot("b", State.AVAILABLE, aspired=True, serves=False)
    assert preserve_availability([serving, new]) is None
    swapped = [replace(serving, serves=False), replace(new, serves=True)]
    assert preserve_availability(swapped) == Action(ActionKind.UNLOAD, "a")


def test_unloading_comes_before_loading() -> None:
    old = Snapshot("a", State.AVAILABLE, aspired=False, serves=False)
    new = Snapshot("b", State.START, aspired=True, serves=False)
    assert preserve_availability([new, old]) == Action(ActionKind.UNLOAD, "a")


def test_a_failed_version_is_left_alone() -> None:
    assert preserve_availability([Snapshot("a", State.END, aspired=True, serves=False)]) is None


@given(versions())
def test_guarantees(given: list[Snapshot]) -> None:
    action = preserve_availability(given)
    assert preserve_availability(given) == action
    if action is None:
        return
    subject = next(snapshot for snapshot in given if snapshot.version == action.version)
    if action.kind is ActionKind.LOAD:
        assert subject.aspired
        assert subject.state is State.START
    else:
        assert not subject.aspired
        assert subject.state is State.AVAILABLE
        assert not subject.serves or not any(snapshot.aspired for snapshot in given)


@given(versions())
def test_in_the_end_only_aspired_versions_and_the_serving_version_are_left(given: list[Snapshot]) -> None:
    for _ in range(2 * len(given) + 1):
        action = preserve_availability(given)
        if action is None:
            break
        reached = State.AVAILABLE if action.kind is ActionKind.LOAD else State.END
        given = [replace(snapshot, state=reached) if snapshot.version == action.version else snapshot for snapshot in given]
    assert preserve_availability(given) is None
    stopping = not any(snapshot.aspired for snapshot in given)
    for snapshot in given:
        assert snapshot.state is not State.START or not snapshot.aspired
        assert snapshot.state is not State.AVAILABLE or snapshot.aspired or (snapshot.serves and not stopping)
