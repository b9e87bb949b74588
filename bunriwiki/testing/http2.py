"""A gRPC client that may break its promises: it sends messages that never end. HTTP/2 by hand, as much as that takes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4  # a setting
FRAME = 16_384
WINDOW = 65_535
SEND_SECONDS = 30.0  # for the peer to open its windows


class Http2Client:
    """One connection to `port` of 127.0.0.1. It keeps to the peer's flow control, as the peer would close it otherwise."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(PREFACE + _frame(SETTINGS, 0, 0, b""))
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
        block = b"".join(_literal(name, value) for name, value in fields.items())
        with self._changed:  # streams begin in the order of their numbers
            stream = 2 * self._streams + 1
            self._streams += 1
            self._windows[stream] = self._initial
            self._write(_frame(HEADERS, END_HEADERS, stream, block))
        if announced is not None:
            self.send(stream, struct.pack(">BI", 0, announced))
        return stream

    def send(self, stream: int, data: bytes, seconds: float = SEND_SECONDS) -> int:
        """Send `data` as far as the peer's windows allow within `seconds`; the number of bytes that were sent."""
        sent = 0
        while sent < len(data):
            with self._changed:
                if not self._changed.wait_for(lambda: self.closed or self._room(stream) > 0, seconds) or self.closed:
                    return sent
                size = min(self._room(stream), FRAME, len(data) - sent)
                self._window -= size
                self._windows[stream] -= size
            try:
                self._write(_frame(DATA, 0, stream, data[sent : sent + size]))
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

    def _write(self, frame: bytes) -> None:
        with self._writing:
            self._socket.sendall(frame)

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
                self._write(_frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self._write(_frame(PING, ACK, 0, payload))
            elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):  # the stream has ended
                self._windows.pop(stream, None)
            self._changed.notify_all()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _literal(name: str, value: str) -> bytes:
    """A header of HPACK without index and without Huffman coding; both are shorter than 127 characters."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
