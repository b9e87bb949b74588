from __future__ import annotations

from prometheus_client import REGISTRY

from bunriwiki.telemetry.metrics import requests


def test_series_exist_from_the_start() -> None:
    requests.begin_with_routes([("POST", "/somewhere")], "rest", "200")
    labels = {"method": "POST", "path": "/somewhere", "protocol": "rest"}
    assert REGISTRY.get_sample_value("http_requests_total", {**labels, "status": "200"}) == 0
    assert REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) == 0


def test_a_request_is_counted_and_timed() -> None:
    requests.count_request("POST", "/counted", "503", "rest", 0.02)
    labels = {"method": "POST", "path": "/counted", "protocol": "rest"}
    assert REGISTRY.get_sample_value("http_requests_total", {**labels, "status": "503"}) == 1
    assert REGISTRY.get_sample_value("http_request_duration_seconds_sum", labels) == 0.02


def test_the_types_of_the_metrics() -> None:
    types = {metric.name: metric.type for metric in REGISTRY.collect()}
    assert types["http_requests"] == "counter"
    assert types["http_request_duration_seconds"] == "histogram"
