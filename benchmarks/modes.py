"""The modes of the service in `switched.py`, and their signals."""

from __future__ import annotations

import signal
from enum import IntEnum
from typing import Self


class Mode(IntEnum):
    """What a service does besides answering."""

    ALL = 0  # metrics, drift and tickets
    NO_TICKETS = 1
    NONE = 2

    @property
    def signal(self) -> int:
        """The signal that switches a process to this mode."""
        return signal.SIGRTMIN + self

    @classmethod
    def of(cls, number: int) -> Self:
        """The mode to which a signal switches."""
        return cls(number - signal.SIGRTMIN)
