"""A gRPC connection that may leave its calls unfinished, which no gRPC library does. It has as much of HTTP/2 as that takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8  # kinds of frames
ACK, END_STREAM, END_HEADERS = 1, 1, 4  # flags
INITIAL_WINDOW_SIZE = 4  # a setting
WINDOW = 65_535  # bytes that may be sent before the first WINDOW_UPDATE
MAX_FRAME = 16_384  # bytes of data
CONNECTION = 0  # the number of the stream that stands for the connection
SERVICE = "/inference.GRPCInferenceService/"


def frame(kind: int, flags: int = 0, stream: int = CONNECTION, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def header_block(fields: dict[str, str]) -> bytes:
    """Header fields as literals without Huffman codes or a table (RFC 7541, section 6.2.2); each shorter than 127 bytes."""
    return b"".join(
        bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode() for name, value in fields.items()
    )


def message(data: bytes, size: int | None = None) -> bytes:
    """A gRPC message of `size` bytes, of which `data` are the first; of `data` if it is None."""
    return b"\0" + (len(data) if size is None else size).to_bytes(4, "big") + data


class GrpcConnection:
    """Calls of the Open Inference service on one connection. `read` has to run meanwhile."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._last = -1
        self._initial = WINDOW
        self._windows = {CONNECTION: WINDOW}
        self._opened = asyncio.Event()  # a window grew, or a call ended
        self._running: dict[int, asyncio.Future[bool]] = {}
        self._data: defaultdict[int, int] = defaultdict(int)
        writer.write(PREFACE + frame(SETTINGS))

    def start(self, method: str) -> int:
        """Begin a call; the number of its stream."""
        self._last += 2
        fields = {
            ":method": "POST", ":scheme": "http", ":path": SERVICE + method, ":authority": "127.0.0.1",
            "content-type": "application/grpc", "te": "trailers",
        }  # fmt: skip
        self._windows[self._last] = self._initial
        self._running[self._last] = asyncio.get_running_loop().create_future()
        self._writer.write(frame(HEADERS, END_HEADERS, self._last, header_block(fields)))
        return self._last

    async def send(self, stream: int, data: bytes, *, last: bool = False) -> None:
        """Send bytes of a call as fast as the server takes them, until the call ends; with `last`, nothing follows them."""
        rest = memoryview(data)
        while rest and stream in self._running and not self._writer.is_closing():
            room = min(MAX_FRAME, self._windows[CONNECTION], self._windows[stream])
            if room <= 0:
                self._opened.clear()
                await self._opened.wait()
                continue
            piece, rest = bytes(rest[:room]), rest[room:]
            self._windows[CONNECTION] -= len(piece)
            self._windows[stream] -= len(piece)
            self._writer.write(frame(DATA, END_STREAM if last and not rest else 0, stream, piece))
            await self._writer.drain()

    async def answered(self, stream: int) -> bool:
        """Whether a call was answered with a message, once it has ended."""
        running = self._running.get(stream)
        return await running if running else self._data[stream] > 0

    async def read(self) -> None:
        """Take what the server sends, until it closes the connection."""
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await self._reader.readexactly(9)
                    payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                    self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        finally:
            for stream in list(self._running):
                self._end(stream)

    async def nothing_left(self) -> None:
        """Wait until every call has ended, by whatever the server did."""
        while self._running:
            self._opened.clear()
            await self._opened.wait()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in {SETTINGS, PING} and not flags & ACK and not self._writer.is_closing():
            self._writer.write(frame(kind, ACK, payload=payload if kind == PING else b""))
        if kind == SETTINGS:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2], "big") == INITIAL_WINDOW_SIZE:
                    self._resize(int.from_bytes(payload[at + 2 : at + 6], "big"))
        elif kind == WINDOW_UPDATE:
            if stream in self._windows:
                self._windows[stream] += int.from_bytes(payload, "big")
            self._opened.set()
        elif kind == DATA:
            self._data[stream] += len(payload)
        if kind == RESET or (kind in {DATA, HEADERS} and flags & END_STREAM):
            self._end(stream)

    def _resize(self, initial: int) -> None:
        for stream in self._windows.keys() - {CONNECTION}:
            self._windows[stream] += initial - self._initial
        self._initial = initial
        self._opened.set()

    def _end(self, stream: int) -> None:
        ended = self._running.pop(stream, None)
        if ended and not ended.done():
            ended.set_result(self._data[stream] > 0)
        self._opened.set()
