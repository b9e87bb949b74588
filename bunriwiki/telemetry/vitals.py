"""How a worker is: its memory, and when that is a reason to be replaced."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
from loguru import logger

from bunriwiki.model_store.heartbeats import EVERY, Heartbeat, Heartbeats, worker_name
from bunriwiki.settings import VitalLimits

_process = psutil.Process()


def resident_memory() -> int:
    """This process' resident memory in bytes."""
    return int(_process.memory_info().rss)


class Vitals:
    """What one worker says of itself in the store's `run/`, and when its memory is a reason to be replaced.

    `figures` gives more fields of `Heartbeat`, each time that it is said.
    """

    def __init__(
        self, role: str, heartbeats: Heartbeats, limits: VitalLimits, figures: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self._heartbeats = heartbeats
        self._figures = figures
        self._limit = limits.memory
        self._workers = limits.workers
        self._last_word = limits.last_word
        self._mute = False
        self._changing = threading.Lock()
        self.latest = Heartbeat(worker=worker_name(role), pid=os.getpid(), parent=os.getppid(), role=role, state="starting")

    def beat(self, **details: Any) -> None:
        """Say how this worker is, with these fields of `Heartbeat`; the others are as before."""
        with self._changing:  # or one that left would come back with what another thread was about to say
            if self.latest.state == "ending":
                return
            self.latest = self.latest.model_copy(update={**self._figures(), **details, "rss": resident_memory()})
        try:
            self._heartbeats.write(self.latest)
        except OSError as error:
            if not self._mute:
                logger.error("this worker cannot say how it is, so no version will wait for it: {}", error)
            self._mute = True
        else:
            self._mute = False

    def ready(self) -> None:
        """The worker answers from now on."""
        rss = resident_memory()
        if 0 < self._limit < rss:
            logger.error(
                "BUNRIWIKI_MAX_RSS_MB is {} MB, but this worker needs {} MB from the start. Raise it; it is not applied here",
                self._limit // 2**20, rss // 2**20,
            )  # fmt: skip
            self._limit = 0
        self.beat(state="ready")

    def keep_beating(self) -> None:
        """Say how this worker is until it ends, and end it when it takes too much memory. Blocks."""
        self.ready()
        while self.latest.state != "ending":
            try:
                self.beat()
                self.check_memory()
            except Exception:  # whatever is wrong with the store: this worker answers
                logger.exception("{} could not say how it is", self.latest.worker)
            time.sleep(EVERY)

    def others(self) -> list[Heartbeat]:
        """The other live workers that share the store."""
        return [one for one in self._heartbeats.alive() if one.worker != self.latest.worker]

    def check_memory(self) -> None:
        """End this worker when it is over the limit: one worker of a service at a time, the first by name."""
        me = self.latest
        if not self._limit or me.rss <= self._limit or me.state != "ready":
            return
        service = [one for one in self.others() if one.service == me.service and one.state == "ready"]
        first = all(one.worker > me.worker for one in service if one.rss > self._limit)
        if first and len(service) + 1 == self._workers:
            self.end(f"it has {me.rss // 2**20} MB, BUNRIWIKI_MAX_RSS_MB allows {self._limit // 2**20}")

    def end(self, reason: str, within: float | None = None) -> None:
        """End this process as SIGTERM does: what is in flight is answered, unless that takes longer than `within` seconds, or
        than all of it may take. The parent starts a new one."""
        if self.latest.state == "ending":
            return
        logger.warning("{} ends itself, to be started again: {}", self.latest.worker, reason)
        self.beat(state="ending")
        # Something may be stuck: that was perhaps the reason.
        timer = threading.Timer(self._last_word if within is None else within, os._exit, [1])
        timer.daemon = True
        timer.start()
        os.kill(os.getpid(), signal.SIGTERM)

    def leave(self) -> None:
        """Nobody should wait for this worker any more."""
        with self._changing:
            self.latest = self.latest.model_copy(update={"state": "ending"})
        self._heartbeats.forget(self.latest.worker)
