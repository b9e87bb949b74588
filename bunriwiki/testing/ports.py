"""Ports to listen on."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 20_000, 29_999  # below the ports that the kernel gives to connections


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that no other test on this machine gets while this process runs.

    It is reserved by an abstract Unix socket named after it: such a name is unique per kernel.
    """
    while True:
        port = random.randint(FIRST, LAST)  # noqa: S311 (no secret)
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reservation.bind(f"\0bunriwiki-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
        else:
            reservation.detach()  # it stays open until this process ends
            return port
