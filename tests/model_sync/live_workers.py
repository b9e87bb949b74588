"""Workers that watch a store, and report the answers that a test chooses."""

from __future__ import annotations

import threading
from typing import Self

from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat, Served, Shadowed
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.paths import MODELS

GOOD = Served(inputs=10, batches=10, seconds=0.1)
FAILING = GOOD.model_copy(update={"failures": 5})
SLOW = GOOD.model_copy(update={"seconds": 5.0})


class LiveWorker:
    """A worker of kcbert that has every requested version in memory.

    At each heartbeat, a hundred times a second, it adds `answers` of the serving version and of a canary to its counts; a
    version that is not in `answers` adds nothing. For a shadow it adds 10 copies, of which `differing` differ.
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
        self.broken: set[str] = set()  # versions that it cannot load

    def __enter__(self) -> Self:
        self._thread.start()
        while not any(beat.worker == self._name for beat in self._writer.heartbeats.alive()):
            self._over.wait(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _live(self) -> None:
        watcher = GenerationWatcher(self._writer.layout, {"kcbert": MODELS / "kcbert"})
        while not self._over.wait(0.01):
            watcher.refresh()
            aspired = watcher.aspired("kcbert")
            self._answer(aspired.serving.version)
            if aspired.canary and aspired.preparing:
                self._answer(aspired.preparing.version)
                if aspired.canary.shadow:
                    self._compare(aspired.preparing.version)
            versions = {candidate.version for candidate in (aspired.serving, aspired.preparing) if candidate}
            self._beat(
                role="kcbert",
                preparing=aspired.preparing_since,
                serving=aspired.serving.version,
                fallback=watcher.fallback_version("kcbert"),
                loaded=dict.fromkeys(versions - self.broken, "available"),
                errors=dict.fromkeys(versions & self.broken, "damaged"),
                served=self._counted,
            )

    def _beat(self, **fields: object) -> None:
        self._writer.heartbeats.write(
            Heartbeat(worker=self._name, pid=1, parent=1, state="ready", shadowed=self._shadowed, **fields)
        )

    def _answer(self, version: str) -> None:
        counted, more = self._counted.get(version, Served()), self.answers.get(version, Served())
        self._counted[version] = Served(
            inputs=counted.inputs + more.inputs,
            failures=counted.failures + more.failures,
            batches=counted.batches + more.batches,
            seconds=counted.seconds + more.seconds,
        )

    def _compare(self, version: str) -> None:
        key = f"kcbert:{version}"
        shadowed = self._shadowed.get(key, Shadowed())
        self._shadowed[key] = Shadowed(inputs=shadowed.inputs + 10, differing=shadowed.differing + self._differing)
