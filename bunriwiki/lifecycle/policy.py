"""Which version to load or unload next: a pure function of what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from bunriwiki.lifecycle.servable import State


class ActionKind(Enum):
    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class Action:
    """What to do, and with which version."""

    kind: ActionKind
    version: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version's state; whether it is aspired (should be in memory) and whether it serves (answers when none is named)."""

    version: str
    state: State
    aspired: bool
    serves: bool


AspiredVersionPolicy = Callable[[Sequence[Snapshot]], Action | None]
"""States in, at most one action out. Stateless: the same states always give the same action."""


def preserve_availability(versions: Sequence[Snapshot]) -> Action | None:
    """Unload what is no longer aspired, then load what is, in the order given.

    What serves is not unloaded, aspired or not, until another version serves in its place; unless nothing is aspired at all.
    Unloading comes first: it frees what the load may need.
    """
    winding_up = not any(one.aspired for one in versions)
    for one in versions:
        if one.state is State.AVAILABLE and not one.aspired and (winding_up or not one.serves):
            return Action(ActionKind.UNLOAD, one.version)
    for one in versions:
        if one.state is State.START and one.aspired:
            return Action(ActionKind.LOAD, one.version)
    return None
