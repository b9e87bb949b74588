"""The span of an HTTP request. It has OpenTelemetry's attributes for HTTP servers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from starlette.types import Scope

from bunriwiki.protocols.rest.metrics import PROBES
from bunriwiki.telemetry.metrics.requests import METHODS, OTHER

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from bunriwiki.telemetry.spans import Attributes, Tracing

TRACE_HEADERS = (b"traceparent", b"tracestate")
MAX_PATH_LENGTH = 256  # characters of a path that a client made up


def begin_span(tracing: Tracing, route: str, scope: Scope) -> Span | None:
    """The span of a request to `route`, to be ended by `in_span`; None if it is not recorded."""
    if route in PROBES:
        return None
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in TRACE_HEADERS}
    return tracing.begin_request(headers, lambda: _described(route, scope))


async def in_span(tracing: Tracing, span: Span, answer: Awaitable[int]) -> int:
    """The status that `answer` returns, whose work is the span's."""
    try:
        status = await answer
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            tracing.fail(span, str(status))
    except BaseException as error:
        tracing.fail(span, type(error).__qualname__)
        raise
    else:
        return status
    finally:
        span.end()


def _described(route: str, scope: Scope) -> tuple[str, Attributes]:
    method = scope["method"] if scope["method"] in METHODS else "_OTHER"
    attributes = {
        "http.request.method": method,
        "url.path": scope["path"][:MAX_PATH_LENGTH],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    name = "HTTP" if method == "_OTHER" else method
    if route != OTHER:
        name += f" {route}"
        attributes["http.route"] = route
    return name, attributes
