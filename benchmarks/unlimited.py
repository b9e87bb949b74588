"""The no-op service (`noop.py`) without limits for connections, heads, bodies and clients: `limits.py` compares it with that.

bentoml serve benchmarks.unlimited:Bunriwiki
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import service
from benchmarks.noop import Bunriwiki
from bunriwiki.protocols.rest import server
from bunriwiki.web.whole_response import EXTENSIONS, take_whole_responses


class UnlimitedHttp(HttpToolsProtocol):
    """uvicorn's protocol, which takes whole responses as the service's does."""

    def on_headers_complete(self) -> None:
        self.scope["extensions"] = EXTENSIONS
        HttpToolsProtocol.on_headers_complete(self)


class NoClients:
    def __init__(self, *_: object) -> None:
        pass

    def of_scope(self, scope: Any) -> str:
        return str((scope.get("client") or ("",))[0])


class NoMemory:
    def __init__(self, *_: object) -> None:
        pass

    def resize(self, client: str, model: str, held: int, size: int) -> None:
        pass


class AnyBody:
    def __init__(self, *_: object) -> None:
        pass

    async def read(self, _: Any, receive: Any, **__: object) -> bytes:
        chunks: list[bytes] = []
        while True:
            message = await receive()
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(chunks)


take_whole_responses()
# In the modules that use these names, before a worker creates what it serves with.
vars(service).update(bounded_http=lambda _: UnlimitedHttp, Clients=NoClients, Memory=NoMemory)
vars(server).update(BodyReader=AnyBody, Clients=NoClients, group_of=str)

__all__ = ["Bunriwiki"]
