"""Doing something that takes long while a person is told how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

TELL_EVERY = 0.3  # seconds
ENDING = 20.0  # seconds for the work to come to an end

ResultT = TypeVar("ResultT")


def while_it_runs(
    work: Callable[[], ResultT], meanwhile: Callable[[], None], stopping: threading.Event | None = None
) -> ResultT:
    """What `work` returns or raises, from a thread; `meanwhile` is called again and again in this one.

    When this one is interrupted, `stopping` is set, and the work has a moment to end; without it the work is left alone.
    """
    future: Future[ResultT] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # it is raised again below
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(TELL_EVERY)
            meanwhile()
    except BaseException:
        if stopping:
            stopping.set()
            thread.join(ENDING)
        raise
    return future.result()
