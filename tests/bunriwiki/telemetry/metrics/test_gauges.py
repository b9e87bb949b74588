from __future__ import annotations

import asyncio
import itertools

import pytest
from prometheus_client import CollectorRegistry, Gauge

from bunriwiki.telemetry.metrics import gauges
from bunriwiki.telemetry.metrics.gauges import keep_publishing, publish, publish_from


@pytest.fixture
def gauge(monkeypatch: pytest.MonkeyPatch) -> Gauge:
    monkeypatch.setattr(gauges, "_read", {})
    return Gauge("running", "Running.", ["path"], registry=CollectorRegistry()).labels("/a")


def test_a_gauge_shows_what_was_published_last(gauge: Gauge) -> None:
    running = [1]
    publish_from(gauge, lambda: running[0])
    publish()
    running[0] = 2
    assert gauge._value.get() == 1
    publish()
    assert gauge._value.get() == 2
    publish_from(gauge, lambda: 5)  # a later one takes its place
    publish()
    assert gauge._value.get() == 5


@pytest.mark.anyio
async def test_it_is_published_again_and_again(gauge: Gauge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "PUBLISH_SECONDS", 0)
    numbers = itertools.count()
    publish_from(gauge, lambda: next(numbers))
    task = asyncio.create_task(keep_publishing())
    while gauge._value.get() < 3:
        await asyncio.sleep(0)
    task.cancel()
