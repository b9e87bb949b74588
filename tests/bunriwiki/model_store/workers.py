"""Workers that report to a store, without loading anything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.heartbeats import Heartbeat
from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.waiting import wait_until

Prepare = Callable[[str], dict[str, object]]


@contextmanager
def worker(writer: StoreWriter, name: str, prepare: Prepare) -> Iterator[None]:
    """A worker of yolo that follows the store. `prepare` returns the heartbeat's fields for the version that it prepares."""
    over = threading.Event()

    def beat() -> None:
        watcher = GenerationWatcher(writer.layout, {"yolo": MODELS / "yolo"})
        while not over.wait(0.01):
            watcher.refresh()
            aspired = watcher.aspired("yolo")
            fields = prepare(aspired.preparing.version) if aspired.preparing else {}
            writer.heartbeats.write(
                Heartbeat(worker=name, pid=1, parent=1, role="yolo", state="ready", fallback=watcher.fallback_version("yolo"),
                          preparing=aspired.preparing_since, **fields)
            )  # fmt: skip

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        wait_until(lambda: any(heartbeat.worker == name for heartbeat in writer.heartbeats.alive()))
        yield
    finally:
        over.set()
        thread.join()


def prepared(version: str) -> dict[str, object]:
    """It has the version in memory."""
    return {"loaded": {version: "available"}}


def loading(version: str) -> dict[str, object]:
    """It is loading the version."""
    return {"loaded": {version: "loading"}}


def failed(version: str) -> dict[str, object]:
    """It gave up loading the version."""
    return {"errors": {version: "no space left"}}
