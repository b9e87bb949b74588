"""Traces over OTLP, where the environment names an endpoint (docs/telemetry.md).

Without one, OpenTelemetry's SDK is not even imported here, and the servers check for None.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from loguru import logger

from bunriwiki import __version__

if TYPE_CHECKING:
    from bunriwiki.telemetry.spans import Tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/json"
DISABLED = "OTEL_SDK_DISABLED"


def open_tracing(role: str) -> Tracing | None:
    """What records the spans of this process, whose role is `role`; None if no endpoint is set. Call `close` at its end."""
    if not any(map(os.environ.get, ENDPOINTS)) or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from bunriwiki.telemetry.spans import Tracing

    for protocol in filter(None, map(os.environ.get, PROTOCOLS)):
        if protocol != PROTOCOL:
            logger.warning("spans are sent as OTLP {}, not {}; collectors take both on the same HTTP port", PROTOCOL, protocol)
    host = socket.gethostname()
    resource = {"service.version": __version__, "service.instance.id": f"{host}:{role}:{os.getpid()}", "host.name": host}
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        resource["service.name"] = "bunriwiki" if role == "gateway" else f"bunriwiki-{role}"
    # The variable is for BentoML's instrumentation, which this service does not use (service.py sets it).
    disabled = os.environ.pop(DISABLED, None)
    try:
        # It is not made the global one: what libraries record is no part of a trace here.
        provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return Tracing(provider)
    finally:
        if disabled is not None:
            os.environ[DISABLED] = disabled
