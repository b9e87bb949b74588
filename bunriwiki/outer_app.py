"""Puts an ASGI application outside of BentoML's.

BentoML wraps an application in its own middlewares, and `add_asgi_middleware` adds one inside of them. They take 40 % of the
gateway's time in the application; one of them keeps the memory of a request until its timeout, another creates a metrics
series for every path that a client sends (docs/upstream/). So uvicorn calls the outer application directly, in every process
and every way of serving.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from _bentoml_sdk import Service
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS


def put_outside(
    service: Service[Any],
    wrap: Callable[[ASGIApp], ASGIApp],
    protocol: Callable[[], type[asyncio.Protocol]] | None = None,
) -> None:
    """Have `service` served by `wrap(routes)`, over uvicorn's HTTP protocol or the one that `protocol` returns.

    `routes` are BentoML's routes of the service, with its startup and shutdown, but without its middlewares. `protocol` is
    called in each worker.
    """

    class Outside(Service[Any]):
        __slots__ = ()  # required to change the class of an existing object

        def to_asgi(self, is_main: bool = True) -> ASGIApp:
            if protocol is not None:
                # BentoML leaves the choice to uvicorn, which looks it up here: a class, or the path of one.
                HTTP_PROTOCOLS["auto"] = cast("str", protocol())
            return wrap(_without_middlewares(super().to_asgi(is_main)))

    service.__class__ = Outside


def _without_middlewares(app: Starlette) -> ASGIApp:
    async def routes(scope: Scope, receive: Receive, send: Send) -> None:
        await app.router({**scope, "app": app}, receive, send)

    return routes


def closed_to_requests(routes: ASGIApp) -> ASGIApp:
    """An application that passes startup and shutdown on to `routes`, and rejects every request.

    BentoML's routes of a runner unpickle request bodies, so no request may reach them.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await routes(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "websocket.close"})

    return answer
