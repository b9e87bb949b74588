from __future__ import annotations

import errno
from typing import NoReturn

import pytest
from prometheus_client import REGISTRY

from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics import requests
from bunriwiki.telemetry.metrics.predictions import PredictionMetrics
from bunriwiki.telemetry.metrics.requests import MessageMetrics, RouteMetrics


def value(name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    samples = [sample for family in REGISTRY.collect() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_series_exist_from_the_start() -> None:
    RouteMetrics("/somewhere", "rest").begin("POST", 200)
    labels = {"method": "POST", "path": "/somewhere", "protocol": "rest"}
    assert REGISTRY.get_sample_value("http_requests_total", {**labels, "status": "200"}) == 0
    assert REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) == 0


def test_a_request_is_counted_and_timed_once_everywhere(bentoml_metrics: BentoMetrics) -> None:
    route = RouteMetrics("/counted", "rest", bentoml_metrics)
    route.first("POST", 503)(1, 0.25)
    route.records["POST", 503](1, 0.5)
    assert value("http_requests_total", method="POST", path="/counted", status="503", protocol="rest") == 2
    assert value("http_request_duration_seconds_sum", method="POST", path="/counted") == 0.75
    assert value("bentoml_service_request_total", endpoint="/counted", http_response_code="503") == 2
    assert value("bentoml_service_request_duration_seconds_sum", endpoint="/counted") == 0.75


def test_an_answer_of_a_model_is_counted_in_the_same_record() -> None:
    model = PredictionMetrics("together")
    RouteMetrics("/together", "rest").first("POST", 200, model, "v1")(1, 0.5, 3, 0.25, 0.125, 0.0625, 0.03125)
    assert value("http_requests_total", path="/together", status="200") == 1
    assert value("bunriwiki_predictions_total", model="together", version="v1") == 3
    assert value("bunriwiki_prediction_duration_seconds_sum", model="together") == 0.25
    phases = {name: value("bunriwiki_phase_duration_seconds_sum", model="together", phase=name) for name in PHASES}
    assert phases == {"read": 0.125, "encode": 0.0625, "queue": 0.03125}


PHASES = ("read", "encode", "queue")


def test_a_message_of_a_stream_is_no_request() -> None:
    before = value("http_requests_total")
    MessageMetrics().first("POST", "OK", PredictionMetrics("streamed"), "v1")(1, 0.5, 3, 0.25, 0.125, 0.0625, 0.03125)
    assert value("bunriwiki_predictions_total", model="streamed", version="v1") == 3
    assert value("http_requests_total") == before


def test_a_client_makes_up_no_method() -> None:
    route = RouteMetrics("/coffee", "rest")
    for method in ("BREW", "WHEN"):
        route.first(method, 405)(1, 0.5)
    assert value("http_requests_total", method="other", path="/coffee", status="405") == 2
    assert len(route.records) == 1


def test_a_full_disk_costs_the_count_and_not_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "no space left on device")

    route = RouteMetrics("/full", "rest")
    with monkeypatch.context() as changed:
        changed.setattr(requests, "recorder", full)
        route.first("POST", 200)(1, 0.5)
    route.first("POST", 200)(1, 0.5)
    assert value("http_requests_total", path="/full") == 1


def test_the_types_of_the_metrics() -> None:
    types = {metric.name: metric.type for metric in REGISTRY.collect()}
    assert types["http_requests"] == "counter"
    assert types["http_request_duration_seconds"] == "histogram"
