"""The process of the rollout: one step after the other, until it is stopped."""

from __future__ import annotations

import threading
import time

from loguru import logger

from bunriwiki.model_store.layout import Layout
from model_sync.rollout.controller import Controller

POLL_SECONDS = 1.0
SIGN_SECONDS = 10.0


def keep_stepping(controller: Controller, stopping: threading.Event) -> None:
    """Step until `stopping` is set, at most once a second while there is nothing to do. Raises no OSError of the disk."""
    signed = 0.0
    while not stopping.is_set():
        try:
            done = controller.step()
            if time.time() - signed > SIGN_SECONDS:
                signed = time.time()
                controller.give_sign_of_life(signed)
        except OSError as error:  # a full disk, for example: the state in memory is newer than the file, and is written later
            logger.error("the state of the rollout cannot be written: {}", error)
            done = False
        if not done:
            stopping.wait(POLL_SECONDS)


def tidy(layout: Layout) -> None:
    """Delete the half-written files that a process left that died. The caller holds the lock of the rollout."""
    for path in layout.rollout.glob(".state.json.*"):
        path.unlink(missing_ok=True)
