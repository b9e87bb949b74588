"""The spans of requests over both protocols, from the request to the runner, which is none here."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from starlette.types import Receive, Scope, Send

from bunriwiki.artifacts.answers import Classification
from bunriwiki.artifacts.models import KCBERT
from bunriwiki.ipc.trace import TraceContext, current_trace
from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.protocols.grpc.server import GrpcServer
from bunriwiki.protocols.handlers.dataplane import DataPlane
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.protocols.rest.traced import begin_span, in_span
from bunriwiki.telemetry.spans import Tracing
from bunriwiki.testing.calls import text_call
from bunriwiki.testing.ports import free_port
from tests.bunriwiki.protocols.fakes import FakeRunner, FakeService, FakeStatus, classified, model

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Iterator[Tracing]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    token = current_trace.set(None)
    yield Tracing(provider)
    current_trace.reset(token)


def trace_of(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


async def request(tracing: Tracing, route: str, status: int, path: str = "/x?secret=1", method: str = "POST") -> None:
    async def answer() -> int:
        if status == 0:
            raise ValueError("a secret text")
        return status

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        span = begin_span(tracing, route, scope)
        await (answer() if span is None else in_span(tracing, span, answer()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.request(method, path, headers=HEADER)


async def test_a_rest_request_has_the_attributes_of_the_convention(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    await request(tracing, "/v2/models/{model}/infer", 200, "/v2/models/kcbert/infer?secret=1")
    [span] = exporter.get_finished_spans()
    assert (span.name, trace_of(span)) == ("POST /v2/models/{model}/infer", TRACE)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST", "http.route": "/v2/models/{model}/infer", "url.path": "/v2/models/kcbert/infer",
        "url.scheme": "http", "network.protocol.version": "1.1", "http.response.status_code": 200,
    }  # fmt: skip
    assert span.status.is_unset


@pytest.mark.parametrize(("status", "failed"), [(404, False), (422, False), (500, True), (503, True)])
async def test_only_an_error_of_the_server_is_an_error(
    tracing: Tracing, exporter: InMemorySpanExporter, status: int, failed: bool
) -> None:
    await request(tracing, "/predict", status)
    [span] = exporter.get_finished_spans()
    assert span.status.is_ok is False if failed else span.status.is_unset
    assert (span.attributes or {}).get("error.type") == (str(status) if failed else None)


async def test_an_exception_shows_its_class_only(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"):
        await request(tracing, "/predict", 0)
    [span] = exporter.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert "secret" not in span.to_json()


async def test_a_client_makes_up_neither_names_nor_long_paths(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    await request(tracing, "other", 404, "/" + "x" * 5000, "BREW")
    [span] = exporter.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert (span.name, attributes["http.request.method"], len(str(attributes["url.path"]))) == ("HTTP", "_OTHER", 256)
    assert "http.route" not in attributes


async def test_scrapes_and_probes_have_no_span(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    for route in ("/metrics", "/livez", "/readyz"):
        await request(tracing, route, 200)
    assert exporter.get_finished_spans() == ()


async def test_the_batch_of_a_request_belongs_to_its_trace(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    seen: list[object] = []

    def answer(_: object) -> Classification:
        seen.append(current_trace.get())
        return classified()

    runner = FakeRunner(answer)
    plane = DataPlane([model(runner, tracing=tracing)], FakeStatus())
    for header in (HEADER, {}):
        span = tracing.begin_request(header, lambda: ("POST /predict", {}))
        assert span is not None
        await plane.infer(KCBERT, ["가", "나"])
        span.end()
    batch, first, other, second = exporter.get_finished_spans()
    for child, parent in ((batch, first), (other, second)):
        assert child.parent is not None
        assert (child.name, child.parent.span_id) == ("batch kcbert", parent.context.span_id)
        assert [link.context.span_id for link in child.links] == [parent.context.span_id]
    assert trace_of(batch) == TRACE != trace_of(other)
    assert f"{batch.context.span_id:016x}" in str(seen[0])  # what goes to the runner


async def test_a_batch_without_a_recorded_request_is_not_recorded(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    seen: list[TraceContext | None] = []

    def answer(_: object) -> Classification:
        seen.append(current_trace.get())
        return classified()

    plane = DataPlane([model(FakeRunner(answer), tracing=tracing)], FakeStatus())
    for header in ({"traceparent": f"00-{TRACE}-{PARENT}-00"}, {}):
        current_trace.set(None)
        assert tracing.begin_request(header, lambda: ("POST /predict", {})) is None
        await plane.infer(KCBERT, ["가"])
    assert exporter.get_finished_spans() == ()
    named, other = seen
    assert named is not None
    assert (named.trace_id, named.sampled, other) == (TRACE, False, None)  # for the runner's log


async def test_a_grpc_call_has_the_attributes_of_the_convention(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    port = free_port()
    server = GrpcServer(FakeService().handlers, Memory(), tracing)
    await server.open("127.0.0.1", port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        infer = text_call("kcbert")
        await stub.ModelInfer(infer, metadata=tuple(HEADER.items()))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ModelMetadata(pb.ModelMetadataRequest(name="nothing"))
        answers = [answer async for answer in stub.ModelStreamInfer(iter([infer, infer]), metadata=tuple(HEADER.items()))]
    await server.close(1)
    assert len(answers) == 2
    spans = exporter.get_finished_spans()
    service = "inference.GRPCInferenceService"
    assert [(span.name, (span.attributes or {})["rpc.response.status_code"]) for span in spans] == [
        (f"{service}/ModelInfer", "OK"), (f"{service}/ModelMetadata", "NOT_FOUND"), (f"{service}/ModelStreamInfer", "OK")
    ]  # fmt: skip
    assert all(span.status.is_unset for span in spans)
    assert [trace_of(span) == TRACE for span in spans] == [True, False, True]
    assert (spans[0].attributes or {})["rpc.system.name"] == "grpc"
