from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from bunriwiki.artifacts.answers import Work
from bunriwiki.protocols.handlers.timing import RequestTiming
from bunriwiki.telemetry.metrics.predictions import PredictionMetrics
from bunriwiki.telemetry.metrics.requests import RouteMetrics
from tests.bunriwiki.telemetry.metrics.test_requests import value

pytestmark = pytest.mark.anyio


def counted(name: str, **labels: str) -> float:
    return value(f"bunriwiki_{name}", model="timed", **labels)


async def test_concurrent_requests_are_told_apart_and_each_is_counted_once() -> None:
    model, route = PredictionMetrics("timed"), RouteMetrics("/timed", "rest")

    async def request(seconds: float) -> None:
        timing = RequestTiming(route, "POST", time.perf_counter())
        await asyncio.sleep(0)
        timing.answer = (model, "v1", 2, timing.began + seconds, time.perf_counter(), 0.5)
        await asyncio.sleep(0)
        timing.end(200)
        assert timing.ended

    await asyncio.gather(*(asyncio.create_task(request(seconds)) for seconds in (1.0, 2.0, 4.0)))
    for phase in ("read", "encode", "queue"):
        assert counted("phase_duration_seconds_count", phase=phase) == 3
    assert counted("phase_duration_seconds_sum", phase="read") == pytest.approx(7)
    assert counted("phase_duration_seconds_sum", phase="queue") == 1.5
    assert counted("phase_duration_seconds_sum", phase="encode") < 1
    assert counted("predictions_total", version="v1") == 6
    assert value("http_requests_total", path="/timed", method="POST", status="200") == 3
    assert value("http_request_duration_seconds_count", path="/timed") == 3
    assert 0 < value("http_request_duration_seconds_sum", path="/timed") < 3


async def test_a_request_without_an_answer_of_a_model_has_no_phases() -> None:
    before = counted("phase_duration_seconds_count")
    RequestTiming(RouteMetrics("/unanswered", "rest"), "GET", time.perf_counter()).end(404)
    assert counted("phase_duration_seconds_count") == before
    assert value("http_requests_total", path="/unanswered", method="GET", status="404") == 1


def test_what_is_counted_of_a_request_is_one_record() -> None:
    model, route = PredictionMetrics("timed"), RouteMetrics("/one", "rest")
    route.first("POST", 200, model, "v1")
    records: list[tuple[Any, ...]] = []
    route.records["POST", 200, model, "v1"] = lambda *amounts: records.append(amounts)
    timing = RequestTiming(route, "POST", time.perf_counter())
    timing.answer = (model, "v1", 2, timing.began + 1e-6, timing.began + 3e-6, 0.5)
    timing.end(200)
    [(number, seconds, inputs, answering, read, encode, queued)] = records
    assert (number, inputs, queued) == (1, 2, 0.5)
    assert (answering, read) == pytest.approx((2e-6, 1e-6), rel=1e-3)
    assert seconds == pytest.approx(read + answering + encode)


def test_calls_are_counted_with_the_next_request_that_ends() -> None:
    model, route = PredictionMetrics("timed_calls"), RouteMetrics("/calls", "rest")

    def end() -> tuple[float, ...]:
        """The calls, their inputs, the observed times of decoding and of forward passes."""
        timing = RequestTiming(route, "POST", time.perf_counter())
        timing.answer = (model, "v1", 1, timing.began, timing.began, 0.0)
        timing.end(200)
        of = partial(value, model="timed_calls")
        seconds = "bunriwiki_phase_duration_seconds"
        preprocessed, forward = of(f"{seconds}_count", phase="preprocess"), of(f"{seconds}_sum", phase="forward")
        return of("bunriwiki_batch_size_count"), of("bunriwiki_batch_size_sum"), preprocessed, forward

    assert end() == (0, 0, 0, 0)
    model.calls.append((3, Work(0.25, 0.5, 40, 10)))
    assert end() == (1, 3, 1, 0.5)
    assert end() == (1, 3, 1, 0.5)
    model.calls += [(2, Work(0.0, 1.0)), (4, Work(0.25, 2.0))]
    assert end() == (3, 9, 2, 3.5)  # all that were answered before it
    assert model.calls == []
