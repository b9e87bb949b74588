"""A TCP proxy in front of a registry that can inject faults."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bunriwiki.testing.ports import free_port

ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
SLOW_BYTES = 512  # at a time
SLOW_SECONDS = 0.2  # between two times


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and forwards to `port`, unless one of its context managers injects a fault."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._fault: tuple[str, object] | None = None
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Stop listening and close all connections."""
        if self._listener:
            _shut_down(self._listener)
            self._listener.close()
            self._listener = None
        self._disconnect()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Connections are refused."""
        self.close()
        yield
        self.open()

    @contextmanager
    def answering(self, status: int, code: str) -> Iterator[None]:
        """Every request is answered with S3's error `code`."""
        yield from self._inject(("error", (status, code)))

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Answers arrive at 2.5 KB/s."""
        yield from self._inject(("slow", None))

    def _inject(self, fault: tuple[str, object]) -> Iterator[None]:
        self._fault = fault
        self._disconnect()
        yield
        self._fault = None
        self._disconnect()

    def _disconnect(self) -> None:
        """Close the connections that clients keep open: they were made under another fault."""
        for connection in list(self._connections):
            _shut_down(connection)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._connections.add(client)
        with client, contextlib.suppress(OSError):
            match self._fault:
                case ("error", (int(status), str(code))):
                    client.recv(65536)
                    body = ERROR.format(code=code).encode()
                    head = f"HTTP/1.1 {status} Error\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}"
                    client.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)
                case fault:
                    with socket.create_connection(("127.0.0.1", self._target)) as server:
                        threading.Thread(target=self._pipe, args=(client, server), daemon=True).start()
                        self._pipe(server, client, slow=fault is not None)
        self._connections.discard(client)

    def _pipe(self, source: socket.socket, target: socket.socket, *, slow: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(SLOW_BYTES if slow else 65536):
                target.sendall(data)
                if slow:
                    time.sleep(SLOW_SECONDS)
        _shut_down(source)
        _shut_down(target)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
