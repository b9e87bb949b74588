"""The ASGI application of the gateway, outside of BentoML's (`bunriwiki/outer_app.py`)."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bunriwiki.protocols.rest.requests import request_id_of
from bunriwiki.protocols.rest.responses import error_response, write
from bunriwiki.protocols.rest.server import RestServer
from bunriwiki.web import problems


class RestApp:
    """What uvicorn calls. It exists before the worker has started, and answers 503 until `server` is set."""

    def __init__(self) -> None:
        self.server: RestServer | None = None
        self._bentoml: ASGIApp = _answer_starting

    def wrap(self, bentoml: ASGIApp) -> ASGIApp:
        """The application with BentoML's routes inside of it: they start and stop the service, and answer a few paths."""
        self._bentoml = bentoml
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start and stop the service."""
        if scope["type"] == "http":
            if self.server is not None:
                await self.server(scope, receive, send, self._bentoml)
            else:
                await _answer_starting(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._bentoml(scope, receive, send)
        else:
            await send({"type": "websocket.close"})


async def _answer_starting(scope: Scope, receive: Receive, send: Send) -> None:
    request_id = request_id_of(Headers(scope=scope))
    error = problems.unavailable("The service is starting. Try again in a moment.")
    await write(error_response(error, scope["path"], request_id), request_id, scope, receive, send, close=False)
