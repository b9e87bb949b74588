"""A port that the workers of a service share belongs to one service."""

from __future__ import annotations

import socket
import sys


def reserve(host: str, port: int, purpose: str, variable: str) -> socket.socket:
    """Reserve a port for the workers of this service; ends the process if another process has it.

    The workers share the port through SO_REUSEPORT, by which a second service could share it unnoticed. So the parent first
    binds the port exclusively, and then keeps a socket bound that never listens: no other service can bind it exclusively.
    The error says what the port is for (`purpose`) and which `variable` sets it.
    """
    with socket.socket(_family(host)) as exclusive:
        exclusive.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            exclusive.bind((host, port))
        except OSError as error:
            sys.exit(f"Port {port} for {purpose} is not available: {error.strerror}. Set {variable} to another port, or to 0.")
    return share(host, port)


def share(host: str, port: int) -> socket.socket:
    """A socket on a reserved port, for one worker. Raises OSError."""
    shared = socket.socket(_family(host))
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind((host, port))
    return shared


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
