from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from bunriwiki.testing.ports import free_port
from bunriwiki.web.port import reserve, share


@pytest.fixture
def reserved() -> Iterator[tuple[socket.socket, int]]:
    port = free_port()
    held = reserve("127.0.0.1", port, "gRPC", "BUNRIWIKI_GRPC_PORT")
    yield held, port
    with contextlib.suppress(OSError):
        held.close()


def test_a_port_belongs_to_one_service(reserved: tuple[socket.socket, int]) -> None:
    held, port = reserved
    with pytest.raises(SystemExit, match=f"Port {port} for gRPC is not available: .+ Set BUNRIWIKI_GRPC_PORT"):
        reserve("127.0.0.1", port, "gRPC", "BUNRIWIKI_GRPC_PORT")
    share("127.0.0.1", port).close()  # a worker of the service joins
    held.close()
    reserve("127.0.0.1", port, "gRPC", "BUNRIWIKI_GRPC_PORT").close()
    reserve("::1", port, "gRPC", "BUNRIWIKI_GRPC_PORT").close()
