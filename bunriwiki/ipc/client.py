"""The gateway's end of the hop: connections to the workers of one runner, each batch to the least busy.

Every worker of a runner listens on a socket of its own, in a folder that only this service may enter. A worker appears there
when a version serves, and disappears when it ends.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from bunriwiki.artifacts.answers import Answers
from bunriwiki.ipc.frames import LENGTH, PROBE, AnswersDecoder, BrokenFrameError, batch_frame, content_length

SOCKET, READY = ".sock", ".ready"  # endings of a worker's socket, and of the file beside it that says that it answers
RESCAN = 0.2  # seconds between two looks into the folder
AVOIDED = 0.5  # seconds that a worker is not asked after it has closed a connection: it may be dying, and still listen
NO_WORKER = 0.02  # seconds between two looks where no worker is there

AnswerT = TypeVar("AnswerT")


class ConnectionLostError(Exception):
    """The worker closed the connection before it had answered: it died, or was about to end."""


class _Connection(asyncio.Protocol):
    """A connection with at most one frame under way."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None
        self._reply: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._length is None and len(self._buffer) >= LENGTH.size:
            try:
                self._length = content_length(self._buffer)
            except BrokenFrameError:
                self.close()
                return
        if self._length is not None and len(self._buffer) >= LENGTH.size + self._length:
            content = bytes(memoryview(self._buffer)[LENGTH.size : LENGTH.size + self._length])
            self._buffer = bytearray()
            self._length = None
            if self._reply is not None and not self._reply.done():
                self._reply.set_result(content)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionLostError(f"the worker closed the connection: {exc or 'end of stream'}"))

    async def call(self, data: bytes | bytearray) -> bytes:
        """The content of the frame that answers the frame `data`. Raises ConnectionLostError."""
        if self.closed or self._transport is None:
            raise ConnectionLostError("the worker closed the connection")
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        try:
            return await self._reply
        finally:
            self._reply = None

    def close(self) -> None:
        """Close it at once, and give up what is under way."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()


class _Worker:
    """A worker's socket, with the connections to it that are idle, and how many calls are under way."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.calls = 0
        self._idle: list[_Connection] = []

    async def call(self, data: bytes | bytearray) -> bytes:
        """Raises ConnectionLostError, and OSError where it cannot be connected to.

        A call that is cancelled costs its connection.
        """
        self.calls += 1
        connection = None
        try:
            connection = await self._connection()
            content = await connection.call(data)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        finally:
            self.calls -= 1
        self._idle.append(connection)
        return content

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        _, connection = await asyncio.get_running_loop().create_unix_connection(_Connection, self.path)
        return connection


class RunnerClient(Generic[AnswerT]):
    """Has batches answered by the workers whose sockets lie in `folder`. It belongs to one event loop."""

    def __init__(self, folder: Path, answers: type[AnswerT]) -> None:
        self._folder = folder
        self._decoder = AnswersDecoder(answers)
        self._workers: dict[str, _Worker] = {}
        self._avoided: dict[str, float] = {}  # until when
        self._scanned = float("-inf")
        self._turns = itertools.count()

    async def predict(self, inputs: Sequence[Any], version: str) -> Answers[AnswerT]:
        """The answers by `version`, or none where the worker does not have it (see `Answers`). Waits for a worker where none
        is there.

        Raises ConnectionLostError when the worker dies meanwhile, BatchError, BrokenFrameError. How long it may take is up to
        the caller: one that is cancelled is forgotten by both sides.
        """
        data = batch_frame(version, inputs)
        while True:
            worker = await self._least_busy()
            try:
                content = await worker.call(data)
            except ConnectionLostError:
                self._avoid(worker)
                raise
            except OSError:  # it could not be connected to: it has ended, or is about to
                self._forget(worker)
                continue
            return self._decoder.decode(content)

    async def is_ready(self) -> bool:
        """Whether a worker answers. Takes as long as one is stuck and no other answers."""
        self._scan()
        probes = [asyncio.create_task(self._answers(worker)) for worker in self._workers.values()]
        try:
            for probe in asyncio.as_completed(probes):
                if await probe:
                    return True
            return False
        finally:
            for task in probes:
                task.cancel()

    def close(self) -> None:
        """Close all connections."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    async def _least_busy(self) -> _Worker:
        if asyncio.get_running_loop().time() - self._scanned > RESCAN:
            self._scan()
        while not self._workers:
            await asyncio.sleep(NO_WORKER)
            self._scan()
        workers = list(self._workers.values())
        first = next(self._turns)  # among equals they take turns
        return min((workers[(first + number) % len(workers)] for number in range(len(workers))), key=lambda one: one.calls)

    async def _answers(self, worker: _Worker) -> bool:
        try:
            return await worker.call(PROBE) == b""
        except (ConnectionLostError, OSError):
            self._avoid(worker)
            return False

    def _scan(self) -> None:
        self._scanned = asyncio.get_running_loop().time()
        try:
            there = {str(path.with_suffix(SOCKET)) for path in self._folder.iterdir() if path.suffix == READY}
        except OSError:
            there = set()
        for path in self._workers.keys() - there:
            self._forget(self._workers[path])
        self._avoided = {path: until for path, until in self._avoided.items() if until > self._scanned}
        for path in there - self._workers.keys() - self._avoided.keys():
            self._workers[path] = _Worker(path)

    def _avoid(self, worker: _Worker) -> None:
        self._avoided[worker.path] = asyncio.get_running_loop().time() + AVOIDED
        self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        worker.close()
        self._workers.pop(worker.path, None)
