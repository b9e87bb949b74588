from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bunriwiki.protocols.rest.metrics import SCRAPES, RequestMetrics
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics

pytestmark = pytest.mark.anyio


def value(name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    samples = [sample for family in REGISTRY.collect() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def answering(status: int, seen: list[float]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(value("bunriwiki_requests_in_flight", protocol="rest"))
        await send({"type": "http.response.start", "status": status, "headers": []})

    return app


async def call(metrics: RequestMetrics, route: str, app: ASGIApp, method: str = "POST") -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    nothing: Any = None
    await metrics.count(route, app, {"type": "http", "method": method}, nothing, send)
    return sent


@pytest.mark.parametrize("with_bentoml", [True, False])
async def test_a_request_is_counted_once_everywhere(bentoml_metrics: BentoMetrics, with_bentoml: bool) -> None:
    route = f"/counted/{with_bentoml}"
    metrics = RequestMetrics([("POST", route)], bentoml_metrics if with_bentoml else None)
    seen: list[float] = []
    for status in (200, 503, 503):
        assert [message["status"] for message in await call(metrics, route, answering(status, seen))] == [status]
    assert seen == [1, 1, 1]
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0
    assert value("http_requests_total", method="POST", path=route, status="200") == 1
    assert value("http_requests_total", method="POST", path=route, status="503") == 2
    assert value("http_request_duration_seconds_count", method="POST", path=route) == 3
    assert value("bentoml_service_request_total", endpoint=route, http_response_code="503") == (2 if with_bentoml else 0)
    assert value("bentoml_service_request_duration_seconds_count", endpoint=route) == (3 if with_bentoml else 0)
    assert value("bentoml_service_request_in_progress", endpoint=route) == 0


async def test_a_scrape_is_no_request_in_flight(bentoml_metrics: BentoMetrics) -> None:
    before, seen = value("http_requests_total", path=SCRAPES), [-1.0]
    await call(RequestMetrics([], bentoml_metrics), SCRAPES, answering(200, seen), "GET")
    assert seen == [-1, 0]
    assert value("http_requests_total", path=SCRAPES) == before + 1
    assert value("bentoml_service_request_total", endpoint=SCRAPES) == 0
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0


async def test_a_request_that_fails_is_counted_as_an_error() -> None:
    async def fails(*_: object) -> None:
        raise ValueError("no coffee")

    metrics = RequestMetrics([], None)
    with pytest.raises(ValueError, match="no coffee"):
        await call(metrics, "/failing", fails, "BREW")
    assert value("http_requests_total", method="other", path="/failing", status="500") == 1
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0
