from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from bunriwiki.protocols.handlers.timing import CURRENT, RequestTiming
from bunriwiki.telemetry.metrics.predictions import PredictionMetrics
from bunriwiki.telemetry.metrics.requests import RouteMetrics
from tests.bunriwiki.telemetry.metrics.test_requests import value

pytestmark = pytest.mark.anyio


def counted(name: str, **labels: str) -> float:
    return value(f"bunriwiki_{name}", model="timed", **labels)


async def test_concurrent_requests_are_told_apart_and_each_is_counted_once() -> None:
    model, route = PredictionMetrics("timed"), RouteMetrics("/timed", "rest")

    async def request(seconds: float) -> None:
        timing = RequestTiming(route, "POST")
        await asyncio.sleep(0)
        assert CURRENT.get() is timing
        checked = timing.began + round(seconds * 1e9)
        timing.answer = (model, "v1", 2, checked, time.monotonic_ns(), 0.5)
        await asyncio.sleep(0)
        timing.end(200)
        assert timing.ended

    await asyncio.gather(*(asyncio.create_task(request(seconds)) for seconds in (1.0, 2.0, 4.0)))
    for phase in ("read", "encode", "queue"):
        assert counted("phase_duration_seconds_count", phase=phase) == 3
    assert counted("phase_duration_seconds_sum", phase="read") == 7
    assert counted("phase_duration_seconds_sum", phase="queue") == 1.5
    assert counted("phase_duration_seconds_sum", phase="encode") < 1
    assert counted("predictions_total", version="v1") == 6
    assert value("http_requests_total", path="/timed", method="POST", status="200") == 3
    assert value("http_request_duration_seconds_count", path="/timed") == 3
    assert 0 < value("http_request_duration_seconds_sum", path="/timed") < 3


async def test_a_request_without_an_answer_of_a_model_has_no_phases() -> None:
    before = counted("phase_duration_seconds_count")
    RequestTiming(RouteMetrics("/unanswered", "rest"), "GET").end(404)
    assert counted("phase_duration_seconds_count") == before
    assert value("http_requests_total", path="/unanswered", method="GET", status="404") == 1


def test_what_is_counted_of_a_request_is_one_record() -> None:
    model, route = PredictionMetrics("timed"), RouteMetrics("/one", "rest")
    route.first("POST", 200, model, "v1")
    records: list[tuple[Any, ...]] = []
    route.records["POST", 200, model, "v1"] = lambda *amounts: records.append(amounts)
    timing = RequestTiming(route, "POST")
    timing.answer = (model, "v1", 2, timing.began + 1_000, timing.began + 3_000, 0.5)
    timing.end(200)
    [(number, seconds, inputs, answering, read, encode, queued)] = records
    assert (number, inputs, answering, read, queued) == (1, 2, 2e-6, 1e-6, 0.5)
    assert seconds == pytest.approx(read + answering + encode)
