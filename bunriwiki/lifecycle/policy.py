"""Decides which version to load or unload next, by a pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from bunriwiki.lifecycle.servable import State


class ActionKind(Enum):
    """What the manager does with a version."""

    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class Action:
    """What to do with which version."""

    kind: ActionKind
    version: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version's state, whether it is aspired (should be in memory), and whether it serves (answers calls that name none)."""

    version: str
    state: State
    aspired: bool
    serves: bool


AspiredVersionPolicy = Callable[[Sequence[Snapshot]], Action | None]
"""States in, at most one action out. The same states always give the same action."""


def preserve_availability(versions: Sequence[Snapshot]) -> Action | None:
    """Unload versions that are no longer aspired, then load those that are, in the order given.

    The serving version is not unloaded until another version serves, unless no version is aspired at all. Unloading comes first
    because it frees memory that the load may need.
    """
    stopping = not any(snapshot.aspired for snapshot in versions)
    for snapshot in versions:
        if snapshot.state is State.AVAILABLE and not snapshot.aspired and (stopping or not snapshot.serves):
            return Action(ActionKind.UNLOAD, snapshot.version)
    for snapshot in versions:
        if snapshot.state is State.START and snapshot.aspired:
            return Action(ActionKind.LOAD, snapshot.version)
    return None
