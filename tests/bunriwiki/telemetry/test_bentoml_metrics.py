from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from bunriwiki.telemetry.bentoml_metrics import BentoMetrics


def value(name: str, **labels: str) -> float | None:
    found = {
        tuple(sorted(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name
    }
    matching = [number for key, number in found.items() if labels.items() <= dict(key).items()]
    return matching[0] if matching else None


def test_names_and_labels_are_those_of_bentoml(bentoml_metrics: BentoMetrics) -> None:
    bentoml_metrics.latest.set(5)
    assert value("bentoml_service_last_request_timestamp_seconds") == 5
    bentoml_metrics.in_progress("/predict").inc()
    assert value("bentoml_service_request_in_progress", endpoint="/predict") == 1
    total, duration = bentoml_metrics.answered("/predict", 200)
    assert value("bentoml_service_request_total", endpoint="/predict", http_response_code="200") == 0
    total.inc()
    duration.observe(0.02)
    assert value("bentoml_service_request_total", endpoint="/predict", http_response_code="200") == 1
    assert value("bentoml_service_request_duration_seconds_sum", endpoint="/predict") == pytest.approx(0.02)
