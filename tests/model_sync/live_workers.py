"""Workers that follow a store, and answer as a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat, Served, Shadowed
from bunriwiki.model_store.writer import StoreWriter
from tests.conftest import MODELS

GOOD = Served(inputs=10, batches=10, seconds=0.1)
FAILING = GOOD.model_copy(update={"failures": 5})
SLOW = GOOD.model_copy(update={"seconds": 5.0})


class LiveWorker:
    """A worker of kcbert with whatever it is asked for in memory.

    At each heartbeat, a hundred times a second, it has answered `answers` with the version that serves, and with a canary, too;
    of the versions that `answers` does not name, nothing. Of a shadow's copies `differing` differ.
    """

    def __init__(self, writer: StoreWriter, answers: dict[str, Served], differing: int = 0, name: str = "one") -> None:
        self.answers = answers
        self._writer = writer
        self._differing = differing
        self._name = name
        self._counted: dict[str, Served] = {}
        self._shadowed: dict[str, Shadowed] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self.broken: set[str] = set()  # what it cannot load

    def __enter__(self) -> Self:
        self._thread.start()
        while not any(one.worker == self._name for one in self._writer.heartbeats.alive()):
            self._over.wait(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _live(self) -> None:
        reconciler = GenerationWatcher(self._writer.layout, {"kcbert": MODELS / "kcbert"})
        while not self._over.wait(0.01):
            reconciler.sync()
            aspired = reconciler.aspired("kcbert")
            self._answer(aspired.serving.version)
            if aspired.canary and aspired.preparing:
                self._answer(aspired.preparing.version)
                if aspired.canary.shadow:
                    self._compare(aspired.preparing.version)
            wanted = {one.version for one in (aspired.serving, aspired.preparing) if one}
            self._say(
                role="kcbert",
                preparing=aspired.preparing_since,
                serving=aspired.serving.version,
                loaded=dict.fromkeys(wanted - self.broken, "available"),
                errors=dict.fromkeys(wanted & self.broken, "damaged"),
                served=self._counted,
            )

    def _say(self, **fields: object) -> None:
        self._writer.heartbeats.write(
            Heartbeat(worker=self._name, pid=1, parent=1, state="ready", shadowed=self._shadowed, **fields)
        )

    def _answer(self, version: str) -> None:
        one, more = self._counted.get(version, Served()), self.answers.get(version, Served())
        self._counted[version] = Served(
            inputs=one.inputs + more.inputs,
            failures=one.failures + more.failures,
            batches=one.batches + more.batches,
            seconds=one.seconds + more.seconds,
        )

    def _compare(self, version: str) -> None:
        key = f"kcbert:{version}"
        one = self._shadowed.get(key, Shadowed())
        self._shadowed[key] = Shadowed(inputs=one.inputs + 10, differing=one.differing + self._differing)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until `condition` is true."""
    waiting = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError(f"not within {seconds} s")
