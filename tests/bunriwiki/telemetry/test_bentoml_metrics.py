from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from bunriwiki.telemetry.bentoml_metrics import BentoMetrics


@pytest.fixture(scope="module")
def metrics() -> BentoMetrics:
    return BentoMetrics()


def value(name: str, **labels: str) -> float | None:
    found = {
        tuple(sorted(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name
    }
    matching = [number for key, number in found.items() if labels.items() <= dict(key).items()]
    return matching[0] if matching else None


def test_a_request_is_counted_like_bentoml_counts_it(metrics: BentoMetrics) -> None:
    metrics.begin("/predict")
    assert value("bentoml_service_request_in_progress", endpoint="/predict") == 1
    metrics.end("/predict", 200, 0.02)
    assert value("bentoml_service_request_in_progress", endpoint="/predict") == 0
    assert value("bentoml_service_request_total", endpoint="/predict", http_response_code="200") == 1
    assert value("bentoml_service_request_duration_seconds_sum", endpoint="/predict") == pytest.approx(0.02)
    assert value("bentoml_service_last_request_timestamp_seconds")


def test_a_series_exists_before_its_first_request(metrics: BentoMetrics) -> None:
    metrics.existing("/yolo/prediction", 200)
    assert value("bentoml_service_request_total", endpoint="/yolo/prediction", http_response_code="200") == 0
