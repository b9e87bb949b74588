"""The span of an HTTP request, as an ASGI middleware. It has OpenTelemetry's attributes for HTTP servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bunriwiki.protocols.rest.metrics import METHODS, OTHER

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from bunriwiki.telemetry.spans import Tracing

UNTRACED = ("/metrics", "/livez", "/healthz", "/readyz")  # scrapes and probes
MAX_PATH_LENGTH = 256  # characters of a path that a client made up


def traced(tracing: Tracing, route: str, app: ASGIApp) -> ASGIApp:
    """`app`, which answers requests to `route`, within a span for each request."""
    if route in UNTRACED:
        return app

    async def in_span(scope: Scope, receive: Receive, send: Send) -> None:
        span = _begin(tracing, route, scope)

        async def send_and_note_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    tracing.fail(span, str(status))
            await send(message)

        try:
            await app(scope, receive, send_and_note_status)
        except BaseException as error:
            tracing.fail(span, type(error).__qualname__)
            raise
        finally:
            span.end()

    return in_span


def _begin(tracing: Tracing, route: str, scope: Scope) -> Span:
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
    headers = Headers(scope=scope)
    return tracing.begin_request(name, attributes, {key: headers[key] for key in tracing.HEADERS if key in headers})
