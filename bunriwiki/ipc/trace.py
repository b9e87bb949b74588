"""The place of a piece of work in a trace, named as in W3C Trace Context. It goes from the gateway to a runner with a batch."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

import msgspec


class TraceContext(msgspec.Struct, array_like=True, frozen=True):
    """The ids of a span, in hexadecimal digits: 32 of the trace, 16 of the span. `sampled`: whether the span is recorded."""

    trace_id: str
    span_id: str
    sampled: bool


def recorded(traces: Iterable[TraceContext | None]) -> list[TraceContext]:
    """Those of `traces` that are recorded, each once."""
    return list(dict.fromkeys(trace for trace in traces if trace is not None and trace.sampled))


# Of the running task or thread; None: what it does belongs to no trace. The log has it in each line.
current_trace: ContextVar[TraceContext | None] = ContextVar("current trace", default=None)
