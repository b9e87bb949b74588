"""Events that tell work to stop."""

from __future__ import annotations

import threading


class StopEvent(threading.Event):
    """An event that sets its children too, so that a part of the work can be stopped alone, or with all of it."""

    def __init__(self, parent: StopEvent | None = None) -> None:
        super().__init__()
        self._parent = parent
        self._children: list[StopEvent] = []

    def child(self) -> StopEvent:
        """An event that is set whenever this one is set; to set the child does not set this one."""
        made = StopEvent(self)
        self._children.append(made)
        made.clear()
        return made

    def set(self) -> None:
        """Set this event and its children."""
        super().set()
        for child in self._children:
            child.set()

    def clear(self) -> None:
        """Clear this event, unless its parent is set."""
        super().clear()
        if self._parent and self._parent.is_set():  # checked last: the parent may be set meanwhile
            self.set()
