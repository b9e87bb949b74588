"""How long the workers keep the previous version in memory after an activation."""

from __future__ import annotations

import threading
import time

from loguru import logger

from bunriwiki.model_store.writer import StoreWriter
from model_sync.syncing.report import Report

POLL_SECONDS = 0.25
DEADLINE = 120.0  # seconds: a call that takes longer hangs, and the monitor deals with it


def time_drain(writer: StoreWriter, report: Report, model: str, stopping: threading.Event, version: str) -> None:
    """Report the phase `drain` of an import, in a thread: until no live worker has `version` in memory. Returns at once.

    Nothing is reported if `version` is wanted again, the sidecar stops, or it takes longer than DEADLINE.
    """

    def run() -> None:
        began = time.monotonic()
        while not stopping.wait(POLL_SECONDS):
            serving = writer.generations().of(model).serving
            if serving and serving.version == version:
                return
            if not any(version in worker.loaded for worker in writer.heartbeats.alive() if worker.role == model):
                report.took(model, "drain", time.monotonic() - began)
                return
            if time.monotonic() - began > DEADLINE:
                logger.warning("{}: workers still have {} in memory after {:g} s", model, version, DEADLINE)
                return

    threading.Thread(target=run, name=f"drain of {model} {version}", daemon=True).start()
