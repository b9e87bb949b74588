from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from bunriwiki.protocols.rest.health_listener import HealthListener
from bunriwiki.testing.ports import free_port

pytestmark = pytest.mark.anyio


begun = asyncio.Event()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    begun.set()
    await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": scope["path"].encode()[:5]})


async def test_it_answers_health_checks_and_metrics_alone_until_it_is_closed() -> None:
    listener, port = HealthListener(app), free_port()
    await listener.open("127.0.0.1", port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for path in ("/livez", "/readyz", "/healthz", "/metrics"):
            assert (await client.get(path)).text == path[:5]
        assert (await client.post("/predict", json={})).status_code == 404
        begun.clear()
        last = asyncio.create_task(client.get("/livez"))
        await begun.wait()
        await listener.close()
        assert (await last).status_code == 200  # it was in flight
        with pytest.raises(httpx.TransportError):
            await client.get("/livez")


async def test_workers_share_the_port() -> None:
    one, other, port = HealthListener(app), HealthListener(app), free_port()
    await one.open("127.0.0.1", port)
    await other.open("127.0.0.1", port)
    await one.close()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 200
    await other.close()


async def test_one_that_was_not_opened_can_be_closed() -> None:
    await HealthListener(app).close()
