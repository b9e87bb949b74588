"""The gRPC port belongs to one service."""

from __future__ import annotations

import socket
import sys


def reserve(host: str, port: int) -> socket.socket:
    """Reserve a port for the workers of this service; ends the process if another process has it.

    The workers share the port through SO_REUSEPORT, by which a second service could share it unnoticed. So the parent first
    binds the port exclusively, and then keeps a socket bound that never listens: no other service can bind it exclusively.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as exclusive:
        exclusive.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            exclusive.bind((host, port))
        except OSError as error:
            sys.exit(
                f"Port {port} for gRPC is not available: {error.strerror}. Set BUNRIWIKI_GRPC_PORT to another port, or to 0."
            )
    reserved = socket.socket(family)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((host, port))
    return reserved
