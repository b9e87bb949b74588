from __future__ import annotations

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from bunriwiki.protocols.handlers.timing import RequestTiming, note_answer
from bunriwiki.telemetry.metrics.predictions import PredictionMetrics

pytestmark = pytest.mark.anyio


def of_phase(name: str, phase: str) -> float:
    return REGISTRY.get_sample_value(f"bunriwiki_phase_duration_seconds_{name}", {"model": "timed", "phase": phase}) or 0.0


def predictions() -> float:
    return REGISTRY.get_sample_value("bunriwiki_predictions_total", {"model": "timed", "version": "v1"}) or 0.0


async def test_the_phases_of_concurrent_requests_are_told_apart() -> None:
    metrics = PredictionMetrics("timed")

    async def request(seconds: float) -> None:
        timing = RequestTiming()
        await asyncio.sleep(0)
        checked = timing.began + round(seconds * 1e9)
        note_answer(metrics, "v1", 2, checked, time.monotonic_ns())
        timing.end()

    await asyncio.gather(*(asyncio.create_task(request(seconds)) for seconds in (1.0, 2.0, 4.0)))
    assert (of_phase("count", "read"), of_phase("sum", "read")) == (3, 7)
    assert of_phase("count", "encode") == 3
    assert of_phase("sum", "encode") < 1
    assert predictions() == 6


async def test_a_request_without_an_answer_has_no_phases() -> None:
    PredictionMetrics("timed")
    before = of_phase("count", "read")
    RequestTiming().end()
    assert of_phase("count", "read") == before


async def test_an_answer_outside_of_a_request_is_counted_at_once() -> None:
    before = predictions()
    note_answer(PredictionMetrics("timed"), "v1", 3, 0, 0)
    assert predictions() == before + 3
