"""The gRPC server in this process, with runners that need none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.servicer import SERVICE
from bunriwiki.protocols.inference.handlers import EXTENSIONS
from bunriwiki.protocols.inference.tensors import join_bytes
from bunriwiki.testing.versions import BUNDLED_VERSION
from tests.bunriwiki.protocols.grpc.serving import SECONDS, SERVING, Serving, call, code_of
from tests.bunriwiki.protocols.rest.test_metrics import value

pytestmark = pytest.mark.anyio


async def test_health_and_metadata(there: Serving) -> None:
    assert (await there.stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await there.stub.ServerReady(pb.ServerReadyRequest())).ready
    assert (await there.stub.ModelReady(pb.ModelReadyRequest(name="kcbert", version="v6"))).ready
    assert not (await there.stub.ModelReady(pb.ModelReadyRequest(name="kcbert", version="v8"))).ready
    assert list((await there.stub.ServerMetadata(pb.ServerMetadataRequest())).extensions) == list(EXTENSIONS)
    yolo = await there.stub.ModelMetadata(pb.ModelMetadataRequest(name="yolo"))
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in yolo.inputs] == [("image", "BYTES", [-1])]
    index = await there.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
    assert {entry.state for entry in index.models} == {"READY"}


async def test_texts_typed_and_raw(there: Serving) -> None:
    texts = ("가".encode(), "나".encode())
    typed = await there.stub.ModelInfer(call("kcbert", *texts))
    assert (typed.model_name, typed.model_version, typed.id) == ("kcbert", BUNDLED_VERSION, "7")
    assert list(typed.outputs[0].contents.bytes_contents) == [b"none", b"none"]
    assert list(typed.outputs[2].contents.fp32_contents) == [0.75, 0.25, 0.75, 0.25]
    raw = await there.stub.ModelInfer(call("kcbert", *texts, raw=True))
    assert raw.raw_output_contents[0] == join_bytes([b"none", b"none"])
    assert there.service.runners["kcbert"].batches == [["가", "나"]] * 2
    stats = (await there.stub.ModelStatistics(pb.ModelStatisticsRequest(name="kcbert"))).model_stats[0]
    assert (stats.version, stats.inference_count, stats.execution_count) == (BUNDLED_VERSION, 4, 2)


async def test_photos(there: Serving, bottle: bytes) -> None:
    answer = await there.stub.ModelInfer(call("yolo", bottle))
    found = {output.name: output.contents for output in answer.outputs}
    assert list(found["labels"].bytes_contents) == [b"plastic", b"plastic"]
    assert list(found["num_detections"].int_contents) == [2]
    assert list(found["uncertain"].bool_contents) == [False, False]


def counted(method: str) -> dict[str, float]:
    """Calls of `method` that succeeded, and what was counted of the answers of kcbert by the version here."""
    found = {"calls": value("http_requests_total", protocol="grpc", path=f"/{SERVICE.full_name}/{method}", status="OK")}
    found["inputs"] = value("bunriwiki_predictions_total", model="kcbert", version=BUNDLED_VERSION)
    phases = {one: value("bunriwiki_phase_duration_seconds_count", model="kcbert", phase=one) for one in ("read", "queue")}
    return {**found, **phases, "in flight": value("bunriwiki_requests_in_flight", protocol="grpc")}


def since(method: str, before: dict[str, float]) -> dict[str, float]:
    return {name: number - before[name] for name, number in counted(method).items()}


async def test_a_call_is_counted_once_with_its_prediction(there: Serving) -> None:
    before = counted("ModelInfer")
    await there.stub.ModelInfer(call("kcbert", b"a", b"b"))
    assert since("ModelInfer", before) == {"calls": 1, "inputs": 2, "read": 1, "queue": 1, "in flight": 0}


async def test_a_stream_is_one_call_whose_messages_are_predictions(there: Serving) -> None:
    before = counted("ModelStreamInfer")
    stream = there.stub.ModelStreamInfer()
    for number, texts in enumerate(((b"a", b"b"), (b" ",), (b"c",))):
        await stream.write(call("kcbert", *texts))
        answer = await stream.read()
        assert bool(answer.error_message) == (number == 1)
    assert since("ModelStreamInfer", before) == {"calls": 0, "inputs": 3, "read": 2, "queue": 2, "in flight": 1}
    await stream.done_writing()
    assert await stream.read() == grpc.aio.EOF
    assert since("ModelStreamInfer", before) == {"calls": 1, "inputs": 3, "read": 2, "queue": 2, "in flight": 0}


async def test_a_stream_answers_each_request_and_survives_errors(there: Serving) -> None:
    there.service.runners["sentiment"].failures = [RuntimeError("secret")]

    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for request in (call("kcbert"), call("nobody"), call("sentiment"), call("sentiment")):
            yield request

    answers = [answer async for answer in there.stub.ModelStreamInfer(requests())]
    assert [bool(answer.error_message) for answer in answers] == [False, True, True, False]
    assert "no model" in answers[1].error_message
    assert "secret" not in answers[2].error_message
    assert all(answer.infer_response.id == "7" for answer in answers)


async def test_errors_have_their_codes(there: Serving) -> None:
    stub, runner = there.stub, there.service.runners["kcbert"]
    assert await code_of(stub.ModelInfer(call("nobody"))) == "NOT_FOUND"
    assert await code_of(stub.ModelInfer(call("kcbert", b"\xff"))) == "INVALID_ARGUMENT"
    assert await code_of(stub.ModelInfer(call("kcbert", b" "))) == "INVALID_ARGUMENT"
    runner.failures = [RuntimeError("secret")]
    assert await code_of(stub.ModelInfer(call())) == "INTERNAL"
    runner.failures = [TimeoutError()]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(call())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata())["retry-after"] == "1"
    junk = there.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    assert await code_of(junk(b"\xff")) == "INVALID_ARGUMENT"
    stream = there.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    assert await code_of(stream(iter([b"\xff"])).read()) == "INVALID_ARGUMENT"


@pytest.mark.usefixtures("short_token_delay")
async def test_control_needs_a_token_and_a_sidecar(there: Serving) -> None:
    for work, request, code in (
        (there.stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="yolo"), "UNAVAILABLE"),
        (there.stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name="yolo"), "INVALID_ARGUMENT"),
    ):
        assert await code_of(work(request)) == "UNAUTHENTICATED"
        assert await code_of(work(request, metadata=(("authorization", "Bearer secret"),))) == code


async def test_health_follows_readiness(there: Serving) -> None:
    serving, not_serving = SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    await there.until_health_is(serving)
    there.service.runners["yolo"].warm = False
    await there.until_health_is(not_serving)
    assert (await there.health("yolo"), await there.health("kcbert")) == (not_serving, serving)
    there.service.runners["yolo"].warm = True
    await there.until_health_is(serving)
    there.service.runners["kcbert"].warm = ValueError("broken")  # type: ignore[assignment]
    there.service.dataplane.draining = True
    await there.until_health_is(not_serving)


async def test_closing_answers_what_is_in_flight_and_waits_for_nothing_else(there: Serving) -> None:
    watch = health_pb2_grpc.HealthStub(there.channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
    await watch.read()
    there.service.runners["kcbert"].seconds = 0.3
    busy = asyncio.ensure_future(there.stub.ModelInfer(call()))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(SECONDS):
        await there.server.close(60)
    assert (await busy).id == "7"
    assert await code_of(there.stub.ServerLive(pb.ServerLiveRequest())) == "UNAVAILABLE"


async def test_watching_health(there: Serving) -> None:
    watch = health_pb2_grpc.HealthStub(there.channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
    async with asyncio.timeout(SECONDS):
        while (await watch.read()).status != SERVING:
            pass
    watch.cancel()
