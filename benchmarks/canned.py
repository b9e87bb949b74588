"""A server that answers every request at once with the same bytes: it shows the limit of the load generator.

python -m benchmarks.canned PORT
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import cast

import uvloop

RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Canned(asyncio.Protocol):
    """Takes each piece that arrives for a request, which holds for a client that sends whole requests one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport.write(RESPONSE)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    gc.disable()
    uvloop.run(serve(int(sys.argv[1])))
