from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from bunriwiki.protocols.rest.metrics import SCRAPES, RequestMetrics
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics


def value(name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    samples = [sample for family in REGISTRY.collect() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def answer(metrics: RequestMetrics, route: str, status: int, method: str = "POST") -> float:
    """The number of requests in flight while this one is answered."""
    began = metrics.begin(route)
    in_flight = value("bunriwiki_requests_in_flight", protocol="rest")
    metrics.end(route, method, status, began)
    return in_flight


@pytest.mark.parametrize("with_bentoml", [True, False])
def test_a_request_is_counted_once_everywhere(bentoml_metrics: BentoMetrics, with_bentoml: bool) -> None:
    route = f"/counted/{with_bentoml}"
    metrics = RequestMetrics([("POST", route)], bentoml_metrics if with_bentoml else None)
    assert [answer(metrics, route, status) for status in (200, 503, 503)] == [1, 1, 1]
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0
    assert value("http_requests_total", method="POST", path=route, status="200") == 1
    assert value("http_requests_total", method="POST", path=route, status="503") == 2
    assert value("http_request_duration_seconds_count", method="POST", path=route) == 3
    assert value("bentoml_service_request_total", endpoint=route, http_response_code="503") == (2 if with_bentoml else 0)
    assert value("bentoml_service_request_duration_seconds_count", endpoint=route) == (3 if with_bentoml else 0)
    assert value("bentoml_service_request_in_progress", endpoint=route) == 0


def test_a_scrape_is_no_request_in_flight(bentoml_metrics: BentoMetrics) -> None:
    before = value("http_requests_total", path=SCRAPES)
    assert answer(RequestMetrics([], bentoml_metrics), SCRAPES, 200, "GET") == 0
    assert value("http_requests_total", path=SCRAPES) == before + 1
    assert value("bentoml_service_request_total", endpoint=SCRAPES) == 0
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0


def test_a_client_makes_up_no_method() -> None:
    metrics = RequestMetrics([], None)
    for method in ("BREW", "WHEN"):
        answer(metrics, "/coffee", 405, method)
    assert value("http_requests_total", method="other", path="/coffee", status="405") == 2
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0
