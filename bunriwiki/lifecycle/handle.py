"""A handle, which keeps a version in memory while it is used."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from bunriwiki.lifecycle.servable import ServableId

ServableT = TypeVar("ServableT")


class Handle(Generic[ServableT]):
    """Keeps a servable in memory until it is closed, at the latest at the end of its `with` block. Do not store handles.

    Not thread-safe. Closing twice has no effect; using it after that raises RuntimeError.
    """

    __slots__ = ("_release", "_servable", "id")

    def __init__(self, servable_id: ServableId, servable: ServableT, release: Callable[[], None]) -> None:
        self.id = servable_id
        self._servable: ServableT | None = servable
        self._release = release

    @property
    def servable(self) -> ServableT:
        """The servable. Raises RuntimeError after `close`."""
        if self._servable is None:
            raise RuntimeError(f"the handle of {self.id} is closed")
        return self._servable

    def close(self) -> None:
        """Release the servable."""
        if self._servable is not None:
            self._servable = None  # before the release, after which the servable may be freed at once
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
