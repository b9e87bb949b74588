"""A server in this process and a client of it, with runners that need none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.server import GrpcServer
from bunriwiki.protocols.inference.tensors import join_bytes
from tests.bunriwiki.protocols.fakes import FakeService

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
