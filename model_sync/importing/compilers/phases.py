"""What a compiler tells of its progress."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Phase = Callable[[str], AbstractContextManager[None]]
"""`with phase("record"):` around a part of the work: `load` (libraries and weights), `record` (golden samples), `compile`, or
`take over`."""


def unreported(_: str) -> AbstractContextManager[None]:
    """For callers that do not ask."""
    return nullcontext()
