"""The spans of this service: of requests, of batches, of what a runner did, and of an import and its phases.

Names and attributes follow OpenTelemetry's semantic conventions; those without a convention begin with `bunriwiki.`. No span
has an input, an answer or the message of an exception.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bunriwiki import __version__
from bunriwiki.artifacts.answers import Answers
from bunriwiki.ipc.trace import TraceContext, current_trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Attributes = Mapping[str, str | int | float]
CLOSE_SECONDS = 5.0  # for the last spans to be sent
ROOT = Context()  # of a span without a parent


class Tracing:
    """Records the spans of one process with `provider`, whose sampler decides which traces are recorded."""

    HEADERS = ("traceparent", "tracestate")

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._ids = provider.id_generator = _Ids()
        # The sampler of a share takes new traces whose ids are below a bound. To compare is cheaper than to ask it.
        root = getattr(provider.sampler, "_root", provider.sampler)
        self._bound = root.bound if isinstance(root, TraceIdRatioBased) else None
        self._tracer = provider.get_tracer("bunriwiki", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what is left. Blocks while it is sent, but for CLOSE_SECONDS at most: a collector may be down."""
        sending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(CLOSE_SECONDS)

    def begin_request(self, headers: Mapping[str, str], describe: Callable[[], tuple[str, Attributes]]) -> Span | None:
        """The span of a request that this task answers, to be ended by the caller; None if it is not recorded.

        It continues the trace that `headers` (those of `HEADERS`) name in W3C's form, if any. A request that names none, and is
        not recorded, belongs to no trace. `describe` returns name and attributes.
        """
        parent = self._propagator.extract(headers, ROOT) if headers else ROOT
        if parent is ROOT and not self._records(self._ids.draw()):
            return None
        name, attributes = describe()
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        current_trace.set(_trace_context(span))  # not reset: the task ends with its request
        return span if span.is_recording() else None

    def _records(self, trace_id: int) -> bool:
        """Whether a new trace with this id is recorded, asked before anything is built: most requests may end here.

        OpenTelemetry's samplers decide by the id, not by what is recorded. The tracer asks again, about the same id.
        """
        if self._bound is not None:
            return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound
        return self._provider.sampler.should_sample(ROOT, trace_id, "").decision is not Decision.DROP

    @contextmanager
    def batch(self, model: str, version: str, size: int, requests: Sequence[TraceContext]) -> Iterator[BatchSpan]:
        """The span of a batch with inputs of `requests`, at least one: a child of the first one, with links to all.

        Within the block, it is the current span, which goes to the runner.
        """
        contexts = [_span_context(request) for request in requests]
        span = self._tracer.start_span(
            f"batch {model}",
            set_span_in_context(NonRecordingSpan(contexts[0]), ROOT),
            SpanKind.CLIENT,
            {"bunriwiki.model.name": model, "bunriwiki.model.version": version, "bunriwiki.batch.size": size},
            [Link(context) for context in contexts],
        )
        current_trace.set(_trace_context(span))
        try:
            yield BatchSpan(self, span)
        except BaseException as error:
            self.fail(span, type(error).__qualname__)
            raise
        finally:
            span.end()

    def start(self, name: str, attributes: Attributes) -> tuple[Span, TraceContext]:
        """A span of a trace of its own, to be ended by the caller, and its ids."""
        span = self._tracer.start_span(name, ROOT, attributes=attributes)
        return span, _trace_context(span)

    @staticmethod
    def fail(span: Span, kind: str) -> None:
        """Mark a span as failed, with an error of this kind: a status, or the name of an exception's class."""
        span.set_attribute("error.type", kind)
        span.set_status(StatusCode.ERROR)

    def past(self, parent: Span, name: str, began_ns: int, ended_ns: int, attributes: Attributes) -> None:
        """A child of `parent` for something that is over. Times are nanoseconds since the epoch."""
        context = set_span_in_context(parent, ROOT)
        self._tracer.start_span(name, context, attributes=attributes, start_time=began_ns).end(ended_ns)


class _Ids(RandomIdGenerator):
    """Generates ids. `draw` returns the trace id that is generated next, for the thread that begins requests."""

    def __init__(self) -> None:
        self._drawn: int | None = None

    def draw(self) -> int:
        self._drawn = super().generate_trace_id()
        return self._drawn

    def generate_trace_id(self) -> int:
        drawn, self._drawn = self._drawn, None
        return drawn or super().generate_trace_id()


class BatchSpan:
    """The span of a batch."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._began_ns = time.time_ns()

    def answered(self, model: str, answers: Answers[Any]) -> None:
        """Record what the runner did, as a child. Its times are cut to those of the batch: a runner is not trusted."""
        if answers.ran is None:
            return
        now, ran, work = time.time_ns(), answers.ran, answers.work
        began = min(max(ran.began_ns, self._began_ns), now)
        attributes: dict[str, str | int | float] = {
            "bunriwiki.model.name": model,
            "bunriwiki.model.version": answers.version,
            "bunriwiki.preprocess.seconds": work.preprocess_seconds,
            "bunriwiki.forward.seconds": work.forward_seconds,
            "process.pid": ran.process,
        }
        self._tracing.past(self._span, f"runner {model}", began, min(max(ran.ended_ns, began), now), attributes)


def _trace_context(span: Span) -> TraceContext:
    context = span.get_span_context()
    return TraceContext(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled)


def _span_context(trace: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(trace.trace_id, 16), int(trace.span_id, 16), is_remote=False, trace_flags=flags)
