"""The gRPC server in this process, with runners that need none."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bunriwiki.protocols.grpc import admission, server
from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.arrivals import FREE_BYTES, LOOKAHEAD_BYTES, Arrivals
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.protocols.grpc.received import ReceivedBytes
from bunriwiki.protocols.grpc.server import GrpcServer
from bunriwiki.protocols.grpc.servicer import SERVICE
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.protocols.inference.handlers import EXTENSIONS
from bunriwiki.protocols.inference.tensors import join_bytes
from bunriwiki.testing.crowd import http2
from bunriwiki.testing.http2 import Http2Client
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.versions import BUNDLED_VERSION
from tests.bunriwiki.protocols.fakes import FakeService
from tests.bunriwiki.protocols.rest.test_metrics import value

pytestmark = pytest.mark.anyio

SECONDS = 10
SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass
class Serving:
    """A server that serves `service`, and a client of it."""

    server: GrpcServer
    service: FakeService
    channel: Any
    stub: Any

    async def health(self, name: str = "") -> int:
        checked = await health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest(service=name))  # type: ignore[attr-defined]
        return int(checked.status)

    async def until_health_is(self, status: int) -> None:
        async with asyncio.timeout(SECONDS):
            while await self.health() != status:
                await asyncio.sleep(0.01)


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.setattr(server, "POLL_SECONDS", 0.02)
    service, port = FakeService(BUNDLED_VERSION), free_port()
    opened = GrpcServer(service.handlers, Memory())
    await opened.open("127.0.0.1", port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Serving(opened, service, channel, GRPCInferenceServiceStub(channel))
    await opened.close(0)


def call(model: str = "kcbert", *texts: bytes, raw: bool = False) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, id="7")
    texts = texts or ("가".encode(),)
    tensor = request.inputs.add(name="image" if model == "yolo" else "text", datatype="BYTES", shape=[len(texts)])
    if raw:
        request.raw_input_contents.append(join_bytes(texts))
    else:
        tensor.contents.bytes_contents.extend(texts)
    return request


async def code_of(work: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await work
    assert caught.value.details()
    return str(caught.value.code().name)


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


async def ended(stream: Any) -> bool:
    """Whether the server has ended a stream, with RESOURCE_EXHAUSTED."""
    try:
        async with asyncio.timeout(1):
            await stream.read()
    except TimeoutError:
        return False
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return True
    raise AssertionError("no message was sent")


async def test_idle_streams_make_room_for_calls_and_never_keep_health_checks_out(
    there: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = there.server._admission._calls
    monkeypatch.setattr(calls, "_limit", 3)
    monkeypatch.setattr(admission, "LINGER_SECONDS", 0.01)
    streams = [there.stub.ModelStreamInfer() for _ in range(3)]
    for stream in streams:
        await stream.wait_for_connection()
    async with asyncio.timeout(SECONDS):
        while len(calls.waits) < 3:
            await asyncio.sleep(0.01)
    assert (await there.stub.ModelInfer(call())).id == "7"
    await there.until_health_is(SERVING)
    assert sorted(await asyncio.gather(*(ended(stream) for stream in streams))) == [False, False, True]
    for stream in streams:
        stream.cancel()


async def test_a_stream_that_made_room_is_answered_later_and_counts_no_more(
    there: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = there.server._admission._calls
    monkeypatch.setattr(calls, "_limit", 1)
    streams = [there.stub.ModelStreamInfer() for _ in range(3)]
    for stream in streams:
        await stream.wait_for_connection()
    async with asyncio.timeout(SECONDS):
        while calls._lingering < 2:
            await asyncio.sleep(0.01)
    assert calls._count == 1
    assert [await ended(stream) for stream in streams] == [False] * 3
    for stream in streams:
        stream.cancel()
    async with asyncio.timeout(SECONDS):
        while calls._count or calls._lingering:
            await asyncio.sleep(0.01)


async def test_calls_that_are_being_answered_are_not_replaced(there: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(there.server._admission._calls, "_limit", 0)
    assert await code_of(there.stub.ModelInfer(call())) == "RESOURCE_EXHAUSTED"
    await there.until_health_is(SERVING)


async def test_a_client_with_hundreds_of_calls_at_a_time_on_one_connection_loses_none(there: Serving) -> None:
    idle = [there.stub.ModelStreamInfer() for _ in range(100)]
    for stream in idle:
        await stream.write(call())

    async def calls() -> None:
        for _ in range(3):
            assert (await there.stub.ServerReady(pb.ServerReadyRequest())).ready

    await asyncio.gather(*(calls() for _ in range(300)))
    for stream in idle:
        stream.cancel()


async def test_an_idle_stream_ends(there: Serving) -> None:
    began = time.monotonic()
    stream = there.stub.ModelStreamInfer()
    await stream.wait_for_connection()
    waits, sweep = there.server._admission._calls.waits, there.server._admission._arrivals.sweep
    async with asyncio.timeout(SECONDS):
        while not len(waits):
            await asyncio.sleep(0.01)
    [wait] = waits
    assert began + admission.IDLE_SECONDS <= wait.until <= time.monotonic() + admission.IDLE_SECONDS
    sweep(wait.until - 1)
    assert wait.ended is None
    sweep(wait.until)
    assert await code_of(stream.read()) == "DEADLINE_EXCEEDED"


async def test_a_call_without_a_message_is_rejected(there: Serving) -> None:
    empty = there.channel.stream_unary("/inference.GRPCInferenceService/ServerLive")

    async def nothing() -> AsyncIterator[bytes]:
        messages: list[bytes] = []
        for message in messages:
            yield message

    assert await code_of(empty(nothing())) == "INVALID_ARGUMENT"


async def test_a_message_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    opened = GrpcServer(FakeService(BUNDLED_VERSION).handlers, Memory(), message_seconds=0.01)
    await opened.open("127.0.0.1", port)
    try:
        client = await asyncio.to_thread(Http2Client, port)
        await asyncio.to_thread(lambda: client.open_call("/inference.GRPCInferenceService/ModelInfer", announced=1000))
        async with asyncio.timeout(SECONDS):
            while client.open_streams:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(client.close)
    finally:
        await opened.close(0)


async def test_of_a_message_that_is_not_read_little_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast the connection is: the core does not enlarge its windows."""
    memory, port = Memory(large_mb=40), free_port()
    opened = GrpcServer(FakeService(BUNDLED_VERSION).handlers, memory)
    await opened.open("127.0.0.1", port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection, received = http2.GrpcConnection(reader, writer), ReceivedBytes()
    reading = asyncio.create_task(connection.read())
    size = 4 * 2**20
    # A call reads if a count finds that nothing of its message has begun to arrive.
    with monkeypatch.context() as uncounted:
        uncounted.setattr(Arrivals, "glance", lambda *_: None)
        for _ in range(3):
            stream = connection.start("ModelInfer")
            await connection.send(stream, http2.message(bytes(size)), last=True)
            assert not await connection.answered(stream)  # it cannot be decoded
        before = sum(received(port).values())
        assert before > 3 * size
        assert memory.large.take("127.0.0.1", 15 * 2**20)
        stream = connection.start("ModelInfer")
        sending = asyncio.create_task(connection.send(stream, http2.message(bytes(size)), last=True))
        while sum(received(port).values()) - before < LOOKAHEAD_BYTES - 2**14:
            await asyncio.sleep(0.01)
    await sending
    assert not await connection.answered(stream)
    assert FREE_BYTES < sum(received(port).values()) - before < LOOKAHEAD_BYTES + 2**14
    writer.close()
    await reading
    await opened.close(0)


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
async def test_calls_that_are_ended_leave_nothing_for_the_collector(
    there: Serving, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The collector visits the oldest objects so rarely that what such calls hold would be some 100 MB."""
    monkeypatch.setattr(admission, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(there.server._admission, "_seconds", 0.01)

    async def ended() -> None:
        call_of = there.channel.stream_stream(f"/inference.GRPCInferenceService/{method}")()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_of.read()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    assert await contexts_in_cycles(ended) == 0


async def test_calls_that_fail_leave_nothing_for_the_collector(there: Serving) -> None:
    async def rejected() -> None:
        assert await code_of(there.stub.ModelInfer(call("resnet"))) == "NOT_FOUND"

    assert await contexts_in_cycles(rejected) == 0


async def contexts_in_cycles(work: Callable[[], Awaitable[None]]) -> int:
    """How many contexts of calls only the collector finds after `work` was done ten times."""
    await work()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            await work()
        await asyncio.sleep(0.1)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return sum(type(item).__name__ == "_ServicerContext" for item in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_watching_health(there: Serving) -> None:
    watch = health_pb2_grpc.HealthStub(there.channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
    async with asyncio.timeout(SECONDS):
        while (await watch.read()).status != SERVING:
            pass
    watch.cancel()


async def test_watching_does_not_keep_others_from_asking(there: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_HEALTH_CALLS", 1)
    stub: Any = health_pb2_grpc.HealthStub(there.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    assert await code_of(stub.Watch(health_pb2.HealthCheckRequest()).read()) == "RESOURCE_EXHAUSTED"
    await there.until_health_is(SERVING)
    watch.cancel()
