"""The heartbeat of a worker, and the limit of its memory."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger

from bunriwiki.model_store.heartbeats import EVERY, Heartbeat, Heartbeats, worker_name
from bunriwiki.settings import VitalLimits
from bunriwiki.telemetry.process_memory import resident_memory


class Vitals:
    """Writes the heartbeats of this worker, and ends the worker when it takes too much memory.

    `number` is the worker's number in its role. `figures` returns further fields of `Heartbeat`, and is called for each one.
    """

    def __init__(
        self,
        role: str,
        heartbeats: Heartbeats,
        limits: VitalLimits,
        figures: Callable[[], Mapping[str, Any]] = dict,
        number: int = 0,
    ) -> None:
        self._heartbeats = heartbeats
        self._figures = figures
        self._max_rss_bytes = limits.max_rss_bytes
        self._workers = limits.workers
        self._shutdown_seconds = limits.shutdown_seconds
        self._cannot_write = False
        self._changing = threading.Lock()
        self.latest = Heartbeat(
            worker=worker_name(role), pid=os.getpid(), parent=os.getppid(), role=role, number=number, state="starting"
        )

    def beat(self, **details: Any) -> None:
        """Write a heartbeat with these fields; the others stay as they were."""
        with self._changing:  # another thread must not write a heartbeat after `leave` has deleted it
            if self.latest.state == "ending":
                return
            rss_bytes = resident_memory()
            memory = {"rss_bytes": rss_bytes, "over_limit": 0 < self._max_rss_bytes < rss_bytes}
            self.latest = self.latest.model_copy(update={**self._figures(), **details, **memory})
        try:
            self._heartbeats.write(self.latest)
        except OSError as error:
            if not self._cannot_write:
                logger.error("cannot write the heartbeat of this worker, so no promotion will wait for it: {}", error)
            self._cannot_write = True
        else:
            self._cannot_write = False

    def ready(self) -> None:
        """Report that the worker answers from now on."""
        rss_bytes = resident_memory()
        if 0 < self._max_rss_bytes < rss_bytes:
            logger.error(
                "BUNRIWIKI_MAX_RSS_MB is {} MB, but this worker needs {} MB from the start. Raise it; it is not applied here",
                self._max_rss_bytes // 2**20, rss_bytes // 2**20,
            )  # fmt: skip
            self._max_rss_bytes = 0
        self.beat(state="ready")

    def keep_beating(self) -> None:
        """Write a heartbeat every second until the worker ends, and end it when it takes too much memory. Blocks."""
        self.ready()
        while self.latest.state != "ending":
            try:
                self.beat()
                self.check_memory()
            except Exception:  # the worker can answer, whatever is wrong with the store
                logger.exception("{} could not write its heartbeat", self.latest.worker)
            time.sleep(EVERY)

    def others(self) -> list[Heartbeat]:
        """The heartbeats of the other live workers that share the store."""
        return [heartbeat for heartbeat in self._heartbeats.alive() if heartbeat.worker != self.latest.worker]

    def check_memory(self) -> None:
        """End this worker if it is over the limit, and all workers of the service are ready.

        If several workers are over the limit, only the first by name ends: one worker of a service is replaced at a time.
        """
        me = self.latest
        if not self._max_rss_bytes or me.rss_bytes <= self._max_rss_bytes or me.state != "ready":
            return
        service = [worker for worker in self.others() if worker.service == me.service and worker.state == "ready"]
        first = all(worker.worker > me.worker for worker in service if worker.over_limit)
        if first and len(service) + 1 == self._workers:
            self.end(f"it has {me.rss_bytes // 2**20} MB, BUNRIWIKI_MAX_RSS_MB allows {self._max_rss_bytes // 2**20}")

    def end(self, reason: str, within: float | None = None) -> None:
        """End this process as SIGTERM does, for `reason`; the parent starts a new one.

        Requests in flight are answered, unless that takes longer than `within` seconds; None: than the service may take to shut
        down.
        """
        if self.latest.state == "ending":
            return
        logger.warning("{} ends itself, to be started again: {}", self.latest.worker, reason)
        self.beat(state="ending")
        # The process must end even if a thread is stuck, which may be the reason why it ends.
        timer = threading.Timer(self._shutdown_seconds if within is None else within, os._exit, [1])
        timer.daemon = True
        timer.start()
        os.kill(os.getpid(), signal.SIGTERM)

    def leave(self) -> None:
        """Delete the heartbeat, so that no promotion waits for this worker any more."""
        with self._changing:
            self.latest = self.latest.model_copy(update={"state": "ending"})
        with contextlib.suppress(OSError):  # a store that this worker could not write to either
            self._heartbeats.forget(self.latest.worker)
