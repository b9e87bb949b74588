from __future__ import annotations

import time

import pytest
from prometheus_client import REGISTRY

from bunriwiki.protocols.rest.metrics import SCRAPES, route_metrics
from bunriwiki.telemetry.bentoml_metrics import BentoMetrics
from bunriwiki.telemetry.metrics.gauges import publish
from bunriwiki.telemetry.metrics.requests import OTHER

ROUTES = [("POST", "/predict"), ("GET", SCRAPES)]


def value(name: str, **labels: str) -> float:
    """The sum of the samples with these labels, once the gauges are published."""
    publish()
    samples = [sample for family in REGISTRY.collect() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@pytest.mark.parametrize("with_bentoml", [True, False])
def test_requests_in_flight_are_shown(bentoml_metrics: BentoMetrics, with_bentoml: bool) -> None:
    metrics = route_metrics(ROUTES, bentoml_metrics if with_bentoml else None)
    metrics["/predict"].running += 2
    metrics[OTHER].running += 1
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 3
    if with_bentoml:
        in_progress = [value("bentoml_service_request_in_progress", endpoint=path) for path in ("/predict", OTHER)]
        assert in_progress == [2, 1]
    metrics["/predict"].running = metrics[OTHER].running = 0
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0


def test_a_scrape_is_no_request_in_flight(bentoml_metrics: BentoMetrics) -> None:
    metrics = route_metrics(ROUTES, bentoml_metrics)
    metrics[SCRAPES].running += 1
    metrics[SCRAPES].first("GET", 200)(1, 0.5)
    assert value("bunriwiki_requests_in_flight", protocol="rest") == 0
    assert value("bentoml_service_request_in_progress", endpoint=SCRAPES) == 0
    assert value("bentoml_service_request_total", endpoint=SCRAPES) == 0


def test_the_latest_request_is_shown_and_no_scrape(bentoml_metrics: BentoMetrics) -> None:
    metrics = route_metrics(ROUTES, bentoml_metrics)
    assert value("bentoml_service_last_request_timestamp_seconds") == 0
    now = time.perf_counter()
    metrics["/predict"].latest, metrics[OTHER].latest, metrics[SCRAPES].latest = now - 20, now - 30, now
    shown = value("bentoml_service_last_request_timestamp_seconds")
    assert shown == pytest.approx(time.time() - 20, abs=5)
