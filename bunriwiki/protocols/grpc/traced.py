"""The span of a gRPC call. It has OpenTelemetry's attributes for RPC servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from bunriwiki.telemetry.spans import Tracing

# What OpenTelemetry counts as errors of a server; the other codes are about the request.
ERRORS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")


class CallTrace:
    """The span of a call of `method` (`package.Service/Method`), which this task answers; nothing if it is not recorded."""

    def __init__(self, tracing: Tracing, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        given = {name: str(value) for name, value in context.invocation_metadata() or () if name in tracing.HEADERS}
        self._tracing = tracing
        self._span: Span | None = tracing.begin_request(
            given, lambda: (method, {"rpc.system.name": "grpc", "rpc.method": method})
        )

    def end(self, code: str) -> None:
        """The call ended with this gRPC code."""
        if self._span is None:
            return
        self._span.set_attribute("rpc.response.status_code", code)
        if code in ERRORS:
            self._tracing.fail(self._span, code)
        self._span.end()
