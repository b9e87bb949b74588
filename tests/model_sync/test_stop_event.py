from __future__ import annotations

from model_sync.stop_event import StopEvent


def test_a_child_is_set_with_its_parent() -> None:
    parent = StopEvent()
    child = parent.child()
    assert not child.is_set()
    parent.set()
    assert child.is_set()
    assert parent.child().is_set()


def test_a_child_alone_can_be_set_and_cleared() -> None:
    parent = StopEvent()
    one, two = parent.child(), parent.child()
    one.set()
    assert (parent.is_set(), one.is_set(), two.is_set()) == (False, True, False)
    one.clear()
    assert not one.is_set()


def test_a_child_of_an_event_that_is_set_cannot_be_cleared() -> None:
    parent = StopEvent()
    child = parent.child()
    parent.set()
    child.clear()
    assert child.is_set()
