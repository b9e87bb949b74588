"""What the gRPC server does about idle, unfinished and too many calls."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bunriwiki.protocols.grpc import admission
from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.arrivals import FREE_BYTES, LOOKAHEAD_BYTES, Arrivals
from bunriwiki.protocols.grpc.received import ReceivedBytes
from bunriwiki.protocols.grpc.server import GrpcServer
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.testing.crowd import http2
from bunriwiki.testing.http2 import Http2Client
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.versions import BUNDLED_VERSION
from tests.bunriwiki.protocols.fakes import FakeService
from tests.bunriwiki.protocols.grpc.serving import SECONDS, SERVING, Serving, call, code_of

pytestmark = pytest.mark.anyio


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


async def test_watching_does_not_keep_others_from_asking(there: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_HEALTH_CALLS", 1)
    stub: Any = health_pb2_grpc.HealthStub(there.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    assert await code_of(stub.Watch(health_pb2.HealthCheckRequest()).read()) == "RESOURCE_EXHAUSTED"
    await there.until_health_is(SERVING)
    watch.cancel()
