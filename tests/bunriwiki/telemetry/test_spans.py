from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind

from bunriwiki.artifacts.answers import Answers, Ran, Work
from bunriwiki.ipc.trace import TraceContext, current_trace, recorded
from bunriwiki.telemetry.spans import Attributes, Tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(autouse=True)
def no_trace() -> Iterator[None]:
    token = current_trace.set(None)
    yield
    current_trace.reset(token)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


def ids(span: ReadableSpan) -> tuple[str, str]:
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def request(tracing: Tracing, name: str, traceparent: str = "", attributes: Attributes | None = None) -> None:
    headers = {"traceparent": traceparent} if traceparent else {}
    if (span := tracing.begin_request(headers, lambda: (name, attributes or {}))) is not None:
        span.end()


def context(number: int, *, sampled: bool = True) -> TraceContext:
    return TraceContext(f"{number:032x}", f"{number:016x}", sampled)


def test_a_request_continues_the_trace_of_its_client(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    request(tracing, "POST /predict", f"00-{TRACE}-{PARENT}-01", {"http.route": "/predict"})
    [span] = exporter.get_finished_spans()
    assert (span.name, span.kind, dict(span.attributes or {})) == ("POST /predict", SpanKind.SERVER, {"http.route": "/predict"})
    assert span.parent is not None
    assert (ids(span)[0], f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert current_trace.get() == TraceContext(*ids(span), sampled=True)


@pytest.mark.parametrize("header", ["no", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "00-" + "x" * 9999])
def test_an_invalid_traceparent_begins_a_new_trace(tracing: Tracing, exporter: InMemorySpanExporter, header: str) -> None:
    request(tracing, "POST /predict", header)
    [span] = exporter.get_finished_spans()
    assert span.parent is None
    assert ids(span)[0] != TRACE


def test_the_client_decides_whether_its_trace_is_recorded(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    request(tracing, "a")
    assert current_trace.get() is None
    request(tracing, "b", f"00-{TRACE}-{PARENT}-00")
    trace = current_trace.get()
    assert trace is not None
    assert (trace.trace_id, trace.sampled) == (TRACE, False)  # the log has the trace all the same
    request(tracing, "c", f"00-{TRACE}-{PARENT}-01")
    assert [span.name for span in exporter.get_finished_spans()] == ["c"]


def test_a_share_of_the_traces_is_recorded(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.25)), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    for _ in range(1000):
        request(tracing, "a")
    found = exporter.get_finished_spans()
    assert abs(len(found) - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5
    assert all(span.context.trace_id % 2**64 < 2**62 for span in found)  # the share is that of the sampler, by the trace's id


def test_a_batch_is_a_child_of_its_first_request_and_links_to_all(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    requests = recorded([None, context(9, sampled=False), context(1), context(1), context(2)])
    with tracing.batch("kcbert", "v7", 5, requests):
        sent = current_trace.get()
    [span] = exporter.get_finished_spans()
    assert sent == TraceContext(*ids(span), sampled=True)
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (1, 1)
    assert [link.context.span_id for link in span.links] == [1, 2]
    assert (span.attributes or {})["bunriwiki.batch.size"] == 5


def test_a_failed_batch_has_the_kind_of_its_error_only(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), tracing.batch("kcbert", "v7", 1, [context(1)]):
        raise ValueError("a secret text")
    [span] = exporter.get_finished_spans()
    assert not span.status.is_ok
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert "secret" not in span.to_json()


def test_the_runner_is_a_child_of_its_batch(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with tracing.batch("kcbert", "v7", 1, [context(1)]) as batch:
        began = time.time_ns()
        answers: Answers[object] = Answers("kcbert", "v7", (), Work(0.25, 0.5), ran=Ran(began, began + 1, 77))
        while time.time_ns() <= began:
            pass
        batch.answered("kcbert", answers)
    runner, span = exporter.get_finished_spans()
    assert runner.parent is not None
    assert runner.parent.span_id == span.context.span_id
    assert (runner.start_time, runner.end_time) == (began, began + 1)
    assert dict(runner.attributes or {}) == {
        "bunriwiki.model.name": "kcbert", "bunriwiki.model.version": "v7", "bunriwiki.preprocess.seconds": 0.25,
        "bunriwiki.forward.seconds": 0.5, "process.pid": 77,
    }  # fmt: skip


@pytest.mark.parametrize("ran", [Ran(0, 2**62, 1), Ran(2**62, 0, 1), Ran(0, 0, 1)])
def test_times_that_a_runner_made_up_stay_within_its_batch(tracing: Tracing, exporter: InMemorySpanExporter, ran: Ran) -> None:
    before = time.time_ns()
    with tracing.batch("kcbert", "v7", 1, [context(1)]) as batch:
        batch.answered("kcbert", Answers("kcbert", "v7", (), ran=ran))
    runner = exporter.get_finished_spans()[0]
    assert before <= (runner.start_time or 0) <= (runner.end_time or 0) <= time.time_ns()
