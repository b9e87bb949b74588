"""A way to a registry that can be spoilt: passes bytes on, or answers with an error, or lets them trickle, or is not there."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.load import free_port

ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'


class Way:
    """Listens on a free port of 127.0.0.1 and passes on to `port`, as `fault` says."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.fault: tuple[str, object] | None = None
        self._open: set[socket.socket] = set()
        self._listening: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Listen."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        """Reject connections."""
        if self._listening:
            _shut(self._listening)
            self._listening.close()
            self._listening = None
        self._cut()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Nobody is there."""
        self.close()
        yield
        self.open()

    @contextmanager
    def answering(self, status: int, code: str) -> Iterator[None]:
        """Every request is answered with an error of S3's."""
        yield from self._with(("error", (status, code)))

    @contextmanager
    def trickling(self) -> Iterator[None]:
        """Answers come a few bytes at a time."""
        yield from self._with(("trickle", None))

    def _with(self, fault: tuple[str, object]) -> Iterator[None]:
        self.fault = fault
        self._cut()
        yield
        self.fault = None
        self._cut()

    def _cut(self) -> None:
        """Connections that are kept open are not to outlive what they were made under."""
        for one in list(self._open):
            _shut(one)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        with client, contextlib.suppress(OSError):
            match self.fault:
                case ("error", (int(status), str(code))):
                    client.recv(65536)
                    body = ERROR.format(code=code).encode()
                    head = f"HTTP/1.1 {status} Error\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}"
                    client.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)
                case fault:
                    with socket.create_connection(("127.0.0.1", self._target)) as server:
                        threading.Thread(target=self._pipe, args=(client, server), daemon=True).start()
                        self._pipe(server, client, trickle=fault is not None)
        self._open.discard(client)

    def _pipe(self, source: socket.socket, target: socket.socket, *, trickle: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(512 if trickle else 65536):
                target.sendall(data)
                if trickle:
                    time.sleep(0.2)
        _shut(source)
        _shut(target)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
