"""Loaders that are slow, fail or leak, as a test requires."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Servable:
    """Answers with its version while it is loaded."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.freed = False

    def answer(self) -> str:
        assert not self.freed, f"{self.version} was unloaded under a running call"
        return self.version


class FakeLoader:
    """Loads at once. `calls` gets the calls of the manager to all loaders of a version, in order."""

    def __init__(self, version: str, calls: list[str]) -> None:
        self.version = version
        self.calls = calls
        self._servable: Servable | None = None

    def load(self) -> None:
        self.calls.append("load")
        self._servable = Servable(self.version)

    def warm_up(self) -> None:
        self.calls.append("warm_up")

    def unload(self) -> None:
        self.calls.append("unload")
        self.servable.freed = True
        self._servable = None

    @property
    def servable(self) -> Servable:
        assert self._servable is not None
        return self._servable


class SlowModel(FakeLoader):
    """Waits in `load` until `may_load` is set."""

    def __init__(self, version: str, calls: list[str], may_load: threading.Event) -> None:
        super().__init__(version, calls)
        self.may_load = may_load

    def load(self) -> None:
        assert self.may_load.wait(30)
        super().load()


class FailingModel(FakeLoader):
    """Raises the next of `failures` in the step `at`, until there are no more."""

    def __init__(self, version: str, calls: list[str], failures: list[Exception], *, at: str = "load") -> None:
        super().__init__(version, calls)
        self.failures = failures
        self.at = at

    def load(self) -> None:
        super().load()
        self._fail_at("load")

    def warm_up(self) -> None:
        super().warm_up()
        self._fail_at("warm_up")

    def _fail_at(self, step: str) -> None:
        if step == self.at and self.failures:
            raise self.failures.pop(0)


class LeakyModel(FakeLoader):
    """Leaves a reference to its servable in `held`, and raises in `unload`."""

    held: list[Any]

    def __init__(self, version: str, calls: list[str], held: list[Any]) -> None:
        super().__init__(version, calls)
        self.held = held

    def load(self) -> None:
        super().load()
        self.held.append(self.servable)

    def unload(self) -> None:
        super().unload()
        raise OSError("could not give everything back")


def plain(version: str, calls: list[str] | None = None) -> Callable[[], FakeLoader]:
    """A factory of loaders that do not fail."""
    return lambda: FakeLoader(version, [] if calls is None else calls)
