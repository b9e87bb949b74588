from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from bunriwiki.protocols.grpc import server
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.protocols.grpc.server import GrpcServer
from bunriwiki.protocols.handlers.memory import Memory
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.versions import BUNDLED_VERSION
from tests.bunriwiki.protocols.fakes import FakeService
from tests.bunriwiki.protocols.grpc.serving import Serving


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.setattr(server, "POLL_SECONDS", 0.02)
    service, port = FakeService(BUNDLED_VERSION), free_port()
    opened = GrpcServer(service.handlers, Memory())
    await opened.open("127.0.0.1", port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Serving(opened, service, channel, GRPCInferenceServiceStub(channel))
    await opened.close(0)
