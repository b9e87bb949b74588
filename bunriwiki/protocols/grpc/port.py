"""One service, one port."""

from __future__ import annotations

import socket
import sys


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port for the workers of this service; ends the process when another one has it.

    The workers share it through SO_REUSEPORT, which a second service on this machine would join without a word. So the parent
    takes the port alone first, and then keeps a socket on it that never listens: no other service can take it alone meanwhile.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            alone.bind((host, port))
        except OSError as error:
            sys.exit(f"Port {port} for gRPC cannot be had: {error.strerror}. Set BUNRIWIKI_GRPC_PORT to another, or to 0.")
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return held
