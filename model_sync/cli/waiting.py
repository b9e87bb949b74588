"""Waits for long work, and shows its progress meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

PROGRESS_SECONDS = 0.3  # between two calls of `progress`
ENDING_SECONDS = 20.0  # that interrupted work has to end

ResultT = TypeVar("ResultT")


def run_with_progress(
    work: Callable[[], ResultT], progress: Callable[[], None], stopping: threading.Event | None = None
) -> ResultT:
    """Run `work` in a thread, return or raise its result, and call `progress` repeatedly in this thread.

    If this thread is interrupted, `stopping` is set and the work gets `ENDING_SECONDS` to end; without it, it is abandoned.
    """
    future: Future[ResultT] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised again below
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(PROGRESS_SECONDS)
            progress()
    except BaseException:
        if stopping:
            stopping.set()
            thread.join(ENDING_SECONDS)
        raise
    return future.result()
