"""Processes that are expected to run while something is waited for."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from bunriwiki.testing.waiting import T, wait_until

LOG_END = 6000  # characters of a log in an error


class ProcessExitedError(AssertionError):
    """A process exited that was expected to run."""


def wait_while_running(
    process: subprocess.Popen[bytes],
    condition: Callable[[], T],
    seconds: float,
    log: Callable[[], str],
    *,
    describe: Callable[[], object] | None = None,
    interval: float = 0.05,
) -> T:
    """`wait_until`, which ends when `process` does; `log` returns what the process has printed.

    Raises WaitTimeoutError with what `describe` returns, or else with the end of the log, and ProcessExitedError with the log.
    """

    def check() -> T:
        if process.poll() is not None:
            raise ProcessExitedError(f"the process exited with {process.returncode}:\n{log()}")
        return condition()

    return wait_until(check, seconds, describe or (lambda: log()[-LOG_END:]), interval=interval)
