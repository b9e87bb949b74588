"""Waiting until something is true, for a limited time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WaitTimeoutError(AssertionError):
    """A condition did not become true in time."""


def wait_until(
    condition: Callable[[], T], seconds: float = 60, describe: Callable[[], object] | None = None, *, interval: float = 0.02
) -> T:
    """Call `condition` every `interval` seconds until it returns something true, and return that.

    Raises WaitTimeoutError after `seconds`, with what `describe` returns, or else with what `condition` returned last. What
    `condition` raises is not caught.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"not true within {seconds:g} s: {describe() if describe else repr(found)}")
        time.sleep(interval)
    return found
