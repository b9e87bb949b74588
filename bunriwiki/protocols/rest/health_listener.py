"""A listener of its own for health checks and metrics.

Nobody knows that a connection is a health check's before its head is read. So where the public port has all the connections
that it may have, those of health checks would be among the ones that are rejected.
"""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from bunriwiki.protocols.rest.metrics import PROBES
from bunriwiki.web.bounded_http import bounded_http
from bunriwiki.web.connections import ConnectionLimits
from bunriwiki.web.port import share

MAX_CONNECTIONS = 64


class HealthListener:
    """Answers `PROBES` by `app`, in the event loop that it is opened in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> None:
        """Start to serve. Raises OSError if the port is not available."""
        protocol = bounded_http(ConnectionLimits(MAX_CONNECTIONS))
        config = uvicorn.Config(
            self._only_health, http=protocol, interface="asgi3", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: protocol(config=config, server_state=self._state, app_state={}), sock=share(host, port)
        )

    async def close(self) -> None:
        """Stop to serve, once the requests in flight are answered."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    async def _only_health(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
