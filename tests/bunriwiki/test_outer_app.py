from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from bunriwiki.outer_app import closed_to_requests, put_outside

pytestmark = pytest.mark.anyio


def service() -> Any:
    @bentoml.service(name="inner", logging={"access": {"enabled": False}})
    class Inner:
        started = False

        @bentoml.on_startup
        def start(self) -> None:
            type(self).started = True

        @bentoml.api
        def answer(self, text: str) -> str:
            return text

    return Inner


class Lifespan:
    """Starts an application, and stops it at the end of the `with` block."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._received: asyncio.Queue[Any] = asyncio.Queue()
        self._sent: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> None:
        lifespan = self._app({"type": "lifespan"}, self._received.get, self._sent.put)
        self._task: asyncio.Future[None] = asyncio.ensure_future(lifespan)
        await self._received.put({"type": "lifespan.startup"})
        assert (await self._sent.get())["type"] == "lifespan.startup.complete"

    async def __aexit__(self, *_: object) -> None:
        await self._received.put({"type": "lifespan.shutdown"})
        assert (await self._sent.get())["type"] == "lifespan.shutdown.complete"
        await self._task


async def test_the_outer_application_is_called_first_and_no_middleware_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    called = []

    def wrap(routes: ASGIApp) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            called.append(scope["type"])
            await routes(scope, receive, send)

        return app

    inner = service()
    put_outside(inner, wrap)
    app = inner.to_asgi()
    async with Lifespan(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        before = len(asyncio.all_tasks())
        answer = await client.get("/livez")
        assert answer.status_code == 200
        assert len(asyncio.all_tasks()) == before
        assert inner.inner.started
        assert "bentoml_service_request_total" not in (await client.get("/metrics")).text
    assert called == ["lifespan", "http", "http"]


async def test_a_closed_service_starts_and_rejects_every_request() -> None:
    inner = service()
    put_outside(inner, closed_to_requests)
    app = inner.to_asgi(is_main=False)
    async with Lifespan(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert inner.inner.started
        for path in ("/answer", "/livez", "/readyz", "/metrics", "/schema.json", "/"):
            assert (await client.get(path)).status_code == 404
            assert (await client.post(path, content=b"\x80\x04.")).status_code == 404
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await app({"type": "websocket", "path": "/answer"}, None, send)
        assert sent == [{"type": "websocket.close"}]
