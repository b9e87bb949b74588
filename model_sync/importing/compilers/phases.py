"""How a compiler reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Phase = Callable[[str], AbstractContextManager[None]]
"""`with phase("record"):` around a part of the work: `import` (libraries), `load` (weights), `record` (golden samples),
`compile`, or `import precompiled`."""


def unreported(_: str) -> AbstractContextManager[None]:
    """Reports nothing."""
    return nullcontext()
