"""The no-op service (`noop.py`) without limits for connections, heads, bodies and clients: `limits.py` compares it with that.

bentoml serve benchmarks.unlimited:Bunriwiki
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bunriwiki.protocols.handlers import memory
from bunriwiki.web import bodies, bounded_http, clients


class NoClients:
    def __init__(self, *_: object) -> None:
        pass

    def of_scope(self, scope: Any) -> str:
        return str((scope.get("client") or ("",))[0])


class NoMemory:
    def __init__(self, *_: object) -> None:
        pass

    def holding(self, *_: object) -> NoMemory:
        return self

    def reserve(self, size: int) -> None:
        pass

    def __enter__(self) -> NoMemory:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class AnyBody:
    def __init__(self, *_: object) -> None:
        pass

    async def read(self, headers: Any, receive: Any, **_: object) -> bytes:  # noqa: ARG002
        chunks: list[bytes] = []
        while True:
            message = await receive()
            chunks.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(chunks)


# Before the modules that import these names are imported.
bounded_http.bounded_http = lambda _: HttpToolsProtocol  # type: ignore[assignment,return-value]
bodies.BodyReader = AnyBody  # type: ignore[misc,assignment]
clients.Clients = NoClients  # type: ignore[misc,assignment]
clients.group_of = str  # type: ignore[assignment]
memory.Memory = NoMemory  # type: ignore[misc,assignment]

from benchmarks.noop import Bunriwiki  # noqa: E402 - after the limits were removed

__all__ = ["Bunriwiki"]
