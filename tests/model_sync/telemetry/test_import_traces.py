from __future__ import annotations

import threading
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bunriwiki.ipc.trace import current_trace
from bunriwiki.telemetry.spans import Tracing
from model_sync.syncing.report import Report
from model_sync.syncing.requests import Outcome
from model_sync.telemetry.import_traces import ImportTraces


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def report(tmp_path: Path, exporter: InMemorySpanExporter) -> Report:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Report(tmp_path / "sync.json", {"yolo": "here", "kcbert": "there"}, ImportTraces(Tracing(provider)))


def test_an_import_is_a_trace_with_a_span_for_each_phase(report: Report, exporter: InMemorySpanExporter) -> None:
    report.begin("yolo")
    trace = current_trace.get()
    assert trace is not None
    with report.phase("yolo", "fetch"):
        pass
    report.took("yolo", "compile", 1.5)
    report.ended(Outcome("yolo", "promoted", version="v3"))
    assert current_trace.get() is None
    drain = threading.Thread(target=report.took, args=("yolo", "drain", 0.1))
    drain.start()
    drain.join()
    fetch, compiled, whole, drained = exporter.get_finished_spans()
    assert [span.name for span in (fetch, compiled, whole, drained)] == ["fetch", "compile", "import yolo", "drain"]
    assert {f"{span.context.trace_id:032x}" for span in (fetch, compiled, whole, drained)} == {trace.trace_id}
    assert {span.parent.span_id for span in (fetch, compiled, drained) if span.parent} == {whole.context.span_id}
    assert (compiled.end_time or 0) - (compiled.start_time or 0) == 1_500_000_000
    attributes = dict(whole.attributes or {})
    assert attributes == {
        "bunriwiki.model.name": "yolo", "bunriwiki.sync.status": "promoted", "bunriwiki.model.version": "v3"
    }  # fmt: skip
    assert whole.status.is_unset


def test_a_rejected_import_is_an_error_without_its_reason(report: Report, exporter: InMemorySpanExporter) -> None:
    report.begin("yolo")
    report.begin("kcbert")
    report.ended(Outcome("yolo", "rejected", version="v3", reason="a secret label"))
    report.ended(Outcome("kcbert", "promoted", version="v1"))
    rejected, promoted = exporter.get_finished_spans()
    assert (rejected.name, rejected.status.is_ok) == ("import yolo", False)
    assert "secret" not in rejected.to_json()
    assert rejected.context.trace_id != promoted.context.trace_id


def test_a_sync_without_an_import_is_no_trace(report: Report, exporter: InMemorySpanExporter) -> None:
    report.ended(Outcome("yolo", "unchanged", version="v3"))
    assert exporter.get_finished_spans() == ()
