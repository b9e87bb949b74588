from __future__ import annotations

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from bunriwiki.telemetry import metrics


def test_series_exist_from_the_start() -> None:
    metrics.begin_with_models(["somebody"])
    for name in ("model_load_total", "model_load_success_total", "model_hot_swap_total"):
        assert REGISTRY.get_sample_value(name, {"model": "somebody"}) == 0
    metrics.begin_with_routes([("POST", "/somewhere")], "rest", "200")
    labels = {"method": "POST", "path": "/somewhere", "protocol": "rest"}
    assert REGISTRY.get_sample_value("http_requests_total", {**labels, "status": "200"}) == 0
    assert REGISTRY.get_sample_value("http_request_duration_seconds_count", labels) == 0


def test_a_request_is_counted_and_timed() -> None:
    metrics.count_request("POST", "/counted", "503", "rest", 0.02)
    labels = {"method": "POST", "path": "/counted", "protocol": "rest"}
    assert REGISTRY.get_sample_value("http_requests_total", {**labels, "status": "503"}) == 1
    assert REGISTRY.get_sample_value("http_request_duration_seconds_sum", labels) == 0.02


def test_the_types_of_the_metrics() -> None:
    types = {metric.name: metric.type for metric in REGISTRY.collect()}
    assert types["http_requests"] == types["model_load"] == types["model_hot_swap"] == "counter"
    assert types["http_request_duration_seconds"] == "histogram"


def test_version_info() -> None:
    [family] = text_string_to_metric_families(metrics.version_info({"yolo": {"v1": False, "v2": True}}))
    assert (family.name, family.type) == ("model_version_info", "gauge")
    assert {(sample.labels["model"], sample.labels["version"]): sample.value for sample in family.samples} == {
        ("yolo", "v1"): 0, ("yolo", "v2"): 1,
    }  # fmt: skip
