"""A gRPC client that may break its promises: it sends messages that never end. HTTP/2 by hand, as much as that takes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from bunriwiki.testing.crowd.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME,
    PING,
    PREFACE,
    RESET,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    frame,
    header_block,
    message,
)

SEND_SECONDS = 30.0  # for the peer to open its windows


class Http2Client:
    """One connection to `port` of 127.0.0.1. It keeps to the peer's flow control, as the peer would close it otherwise."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(PREFACE + frame(SETTINGS))
        self._window = WINDOW  # of the connection
        self._initial = WINDOW
        self._windows: dict[int, int] = {}  # of the streams
        self._streams = 0
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self.closed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def open_call(self, path: str, *, announced: int | None = None) -> int:
        """Begin a call of the method at `path`; with `announced`, its message has so many bytes, of which none is sent."""
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers"}
        fields["content-type"] = "application/grpc"
        with self._changed:  # streams begin in the order of their numbers
            stream = 2 * self._streams + 1
            self._streams += 1
            self._windows[stream] = self._initial
            self._write(frame(HEADERS, END_HEADERS, stream, header_block(fields)))
        if announced is not None:
            self.send(stream, message(b"", announced))
        return stream

    def send(self, stream: int, data: bytes, seconds: float = SEND_SECONDS) -> int:
        """Send `data` as far as the peer's windows allow within `seconds`; the number of bytes that were sent."""
        sent = 0
        while sent < len(data):
            with self._changed:
                if not self._changed.wait_for(lambda: self.closed or self._room(stream) > 0, seconds) or self.closed:
                    return sent
                size = min(self._room(stream), MAX_FRAME, len(data) - sent)
                self._window -= size
                self._windows[stream] -= size
            try:
                self._write(frame(DATA, 0, stream, data[sent : sent + size]))
            except OSError:
                return sent
            sent += size
        return sent

    @property
    def open_streams(self) -> int:
        """The calls that the server has not ended."""
        return len(self._windows)

    def close(self) -> None:
        """Close the connection, whatever has been sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def _write(self, data: bytes) -> None:
        with self._writing:
            self._socket.sendall(data)

    def _room(self, stream: int) -> int:
        return min(self._window, self._windows.get(stream, 0))

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as stream:
            while len(head := stream.read(9)) == 9:
                length, kind, flags, number = int.from_bytes(head[:3]), head[3], head[4], int.from_bytes(head[5:])
                self._take(kind, flags, number, stream.read(length))
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        with self._changed:
            if kind == WINDOW_UPDATE:
                increment = int.from_bytes(payload)
                if stream == 0:
                    self._window += increment
                elif stream in self._windows:
                    self._windows[stream] += increment
            elif kind == SETTINGS and not flags & ACK:
                for name, value in struct.iter_unpack(">HI", payload):
                    if name == INITIAL_WINDOW_SIZE:
                        for number in self._windows:
                            self._windows[number] += value - self._initial
                        self._initial = value
                self._write(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self._write(frame(PING, ACK, 0, payload))
            elif kind == RESET or (kind == HEADERS and flags & END_STREAM):  # the stream has ended
                self._windows.pop(stream, None)
            self._changed.notify_all()
