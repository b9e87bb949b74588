from __future__ import annotations

from prometheus_client import REGISTRY

from bunriwiki.artifacts.answers import Work
from bunriwiki.telemetry.metrics.predictions import PredictionMetrics, shed_for_memory
from bunriwiki.telemetry.metrics.record_file import NOTHING
from bunriwiki.telemetry.metrics.values import recorder


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"bunriwiki_{name}", labels)


def test_an_answered_request() -> None:
    metrics = PredictionMetrics("answering")
    metrics.answered("v1", 3, 0.02, 0.001)
    recorder(*metrics.answer("v1"))(1, 0.5, 0.25, 0.5, 0.125, 2, NOTHING, 0.25, 30, 5)
    assert value("predictions_total", model="answering", version="v1") == 4
    assert value("prediction_duration_seconds_count", model="answering", version="v1") == 2
    assert value("prediction_duration_seconds_sum", model="answering", version="v1") == 0.52
    sums = {phase: value("phase_duration_seconds_sum", model="answering", phase=phase) for phase in ("read", "queue", "encode")}
    assert sums == {"read": 0.25, "queue": 0.126, "encode": 0.5}
    assert value("batch_size_count", model="answering") == 1
    assert value("phase_duration_seconds_sum", model="answering", phase="forward") == 0.25
    assert value("phase_duration_seconds_count", model="answering", phase="preprocess") == 0  # of a pyfunc
    assert (value("batch_tokens_total", model="answering"), value("batch_padding_tokens_total", model="answering")) == (30, 5)
    assert value("version_seen_timestamp_seconds", model="answering", version="v1")


def test_all_series_of_a_version_begin_with_its_first_answer() -> None:
    """Its first failure is then a rise from 0, and a version that was gone before the next scrape was seen."""
    PredictionMetrics("beginning").answer("v2")
    assert value("prediction_failures_total", model="beginning", version="v2", reason="model_error") == 0
    assert value("version_seen_timestamp_seconds", model="beginning", version="v2")


def test_failures() -> None:
    metrics = PredictionMetrics("failing")
    metrics.failed("v1", "overloaded")
    metrics.failed("v1", "overloaded")
    metrics.shed("queue_full")
    assert value("prediction_failures_total", model="failing", version="v1", reason="overloaded") == 2
    assert value("shed_requests_total", model="failing", reason="queue_full") == 1
    assert value("predictions_total", model="failing", version="v1") == 0


def test_a_call() -> None:
    metrics = PredictionMetrics("called")
    metrics.calls += [(5, Work(0.001, 0.02, 40, 10)), (1, Work(0.0, 0.01))]
    metrics.count_calls()
    assert metrics.calls == []
    assert value("batch_size_sum", model="called") == 6
    assert value("phase_duration_seconds_count", model="called", phase="preprocess") == 1
    assert value("phase_duration_seconds_count", model="called", phase="forward") == 2
    assert (value("batch_tokens_total", model="called"), value("batch_padding_tokens_total", model="called")) == (40, 10)


def test_a_client_makes_up_no_label() -> None:
    before = value("shed_requests_total", model="other", reason="memory") or 0
    shed_for_memory("a model that there is not")
    assert value("shed_requests_total", model="other", reason="memory") == before + 1
