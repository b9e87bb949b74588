"""A collector of spans: takes OTLP over HTTP as JSON, checks it against OpenTelemetry's protobuf messages, and keeps it."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

IDS = ("traceId", "spanId", "parentSpanId")  # hexadecimal in OTLP's JSON, base64 in that of protobuf


@dataclass(frozen=True)
class Received:
    """A span, with its ids in hexadecimal digits, its attributes, and those of the process that sent it."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    began_ns: int
    ended_ns: int
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


class OtlpReceiver(ThreadingHTTPServer):
    """Receives spans at `endpoint` on 127.0.0.1 until the end of the `with` block."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Received] = []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def of(self, trace: str) -> list[Received]:
        """The spans of a trace."""
        return [span for span in self.spans if span.trace == trace]

    def take(self, body: bytes) -> None:
        """Keep the spans of an export request. Raises ParseError if it is none."""
        request = ParseDict(_with_base64(json.loads(body)), ExportTraceServiceRequest())
        for of_resource in request.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [_received(span, resource) for span in of_scope.spans]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: OtlpReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        known = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
        if known:
            self.server.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def _with_base64(given: Any) -> Any:
    if isinstance(given, list):
        return [_with_base64(item) for item in given]
    if isinstance(given, dict):
        return {
            key: base64.b64encode(bytes.fromhex(value)).decode() if key in IDS else _with_base64(value)
            for key, value in given.items()
        }
    return given


def _attributes(given: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in given}


def _received(span: Span, resource: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        kind=span.kind,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
        resource=resource,
    )
