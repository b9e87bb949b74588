"""Gauges of numbers that change with each request: they are read when they are published, so that a change costs no call.

So is what a request usually counts, if none comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import Gauge

PUBLISH_SECONDS = 0.25  # between two publications

_read: dict[Gauge, Callable[[], float]] = {}
_count: list[Callable[[], None]] = []


def publish_from(gauge: Gauge, read: Callable[[], float]) -> None:
    """Have `read` return the value of `gauge`, a child of a metric, from now on. It is called in the event loop."""
    _read[gauge] = read


def count_when_published(count: Callable[[], None]) -> None:
    """Have `count` called in the event loop before each publication, from now on."""
    _count.append(count)


def publish() -> None:
    """Publish the current values."""
    for count in _count:
        count()
    for gauge, read in _read.items():
        gauge.set(read())


async def keep_publishing() -> None:
    """Publish the current values again and again, until this task is cancelled."""
    while True:
        publish()
        await asyncio.sleep(PUBLISH_SECONDS)
