"""Things in the order of their arrival, by the client that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Groups(Generic[ItemT]):
    """Items by client. Adding and removing take the same time however many there are."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[ItemT, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ItemT]:
        """All items, which may change meanwhile."""
        return iter([item for group in self._groups.values() for item in group])

    def has(self, client: str, item: ItemT) -> bool:
        return item in self._groups.get(client, ())

    def add(self, client: str, item: ItemT) -> None:
        self._groups.setdefault(client, {})[item] = None
        self._count += 1

    def remove(self, client: str, item: ItemT) -> bool:
        """Remove an item; returns False if it is not there."""
        if not self.has(client, item):
            return False
        del self._groups[client][item]
        if not self._groups[client]:
            del self._groups[client]
        self._count -= 1
        return True

    def oldest(self, client: str) -> ItemT | None:
        """The client's first item that is still there."""
        return next(iter(self._groups.get(client, ())), None)

    def largest(self, newcomer: str) -> str:
        """The client with the most items; `newcomer` if it has its share of them, which saves the search, or there are none."""
        if len(self._groups.get(newcomer, ())) * len(self._groups) >= self._count:
            return newcomer
        return max(self._groups, key=lambda client: len(self._groups[client]))
