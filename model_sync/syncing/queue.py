"""Looks, one after the other per model: who asks while one is under way shares the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from loguru import logger

from bunriwiki.model_store.generation import Asker
from model_sync.sandbox.run import StoppedError
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Asked, Outcome

Look = Callable[..., Outcome]  # (by, *, force)


class Line:
    """One model's looks, made by a thread of its own."""

    def __init__(self, model: str, look: Look, report: Report) -> None:
        self.model = model
        self._look = look
        self._report = report
        self._changed = threading.Condition()
        self._asked = 0  # looks that were asked for
        self._taken = 0  # up to which of them the look that was begun last counts
        self._done = 0  # and the one that ended last
        self._by: Asker = "start"
        self._force = False
        self._stopped = False
        self._outcome: Outcome | None = None

    def ask(self, by: Asker, *, force: bool) -> int:
        """Ask for a look that begins after this; its number."""
        with self._changed:
            if self._asked == self._taken or by == "person":
                self._by = by
            self._force |= force
            self._asked += 1
            self._changed.notify_all()
            return self._asked

    def wait(self, number: int, until: float) -> Outcome | None:
        """The outcome of that look or a later one; None when there is none at `until`, of `time.monotonic()`."""
        with self._changed:
            self._changed.wait_for(lambda: self._done >= number, until - time.monotonic())
            return self._outcome if self._done >= number else None

    def run(self) -> None:
        """Look whenever somebody asks. Blocks until `stop`, or until a look finds that the sidecar ends."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._asked > self._done)
                if self._stopped:
                    return
                number, by, force = self._asked, self._by, self._force
                self._taken = number
                self._force = False
            try:
                outcome = self._look(by, force=force)
            except StoppedError:
                return
            except Exception as error:  # whatever it is, what serves serves on, and the next look may do
                logger.exception("a look at {} failed", self.model)
                outcome = Outcome(self.model, "failed", reason=f"{type(error).__name__}: {error}")
            self._report.ended(outcome)
            with self._changed:
                self._done, self._outcome = number, outcome
                self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class Lines:
    """A line per model (a `looks.Looks`)."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = {line.model: line for line in lines}

    def look(self, by: Asker, models: Collection[str] | None = None, *, force: bool = False) -> Asked:
        wanted = self._lines.keys() if models is None else models
        numbers = {self._lines[model]: self._lines[model].ask(by, force=force) for model in wanted if model in self._lines}
        return _Ticket(numbers, [model for model in wanted if model not in self._lines])


class _Ticket:
    def __init__(self, numbers: Mapping[Line, int], others: Sequence[str]) -> None:
        self._numbers = numbers
        self._others = {model: Outcome(model, "unchanged", reason="no registry feeds it") for model in others}

    def wait(self, seconds: float) -> dict[str, Outcome] | None:
        until = time.monotonic() + seconds
        found = {line.model: line.wait(number, until) for line, number in self._numbers.items()}
        return {model: one for model, one in found.items() if one} | self._others if all(found.values()) else None
