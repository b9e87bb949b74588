"""The place of a piece of work in a trace, named as in W3C Trace Context. It goes from the gateway to a runner with a batch."""

from __future__ import annotations

from contextvars import ContextVar

import msgspec


class TraceContext(msgspec.Struct, array_like=True, frozen=True):
    """The ids of a span, in hexadecimal digits: 32 of the trace, 16 of the span. `sampled`: whether the span is recorded."""

    trace_id: str
    span_id: str
    sampled: bool


# Of the running task or thread; None: what it does belongs to no trace. The log has it in each line.
current_trace: ContextVar[TraceContext | None] = ContextVar("current trace", default=None)
