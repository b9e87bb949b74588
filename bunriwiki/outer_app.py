"""Our ASGI application outside of BentoML's.

BentoML wraps an application in its own middlewares, and `add_asgi_middleware` comes inside of them. They cost 40 % of the
gateway's time in the application; one of them keeps all that belongs to a request for as long as its timeout, another makes a
metrics series per path that a client makes up (docs/upstream/). So ours is the one that uvicorn calls, in every process and
every way of serving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _bentoml_sdk import Service
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send


def put_outside(service: Service[Any], wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    """Have `service` be served by `wrap(routes)`.

    `routes` are BentoML's for the service, with its start and its stop, but without its middlewares.
    """

    class Outside(Service[Any]):
        __slots__ = ()  # or the class of an object that is there already could not be changed

        def to_asgi(self, is_main: bool = True) -> ASGIApp:
            return wrap(_without_middlewares(super().to_asgi(is_main)))

    service.__class__ = Outside


def _without_middlewares(app: Starlette) -> ASGIApp:
    async def routes(scope: Scope, receive: Receive, send: Send) -> None:
        await app.router({**scope, "app": app}, receive, send)

    return routes


def closed_to_requests(routes: ASGIApp) -> ASGIApp:
    """`routes` for a process that answers nobody over HTTP: it starts and stops with it, and that is all.

    BentoML's routes of a runner unpickle what is sent to them, so nothing reaches them.
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
