"""The gateway's side of the calls to a runner: connections to its workers, with load balancing.

Every worker of a runner listens on its own socket, in a folder that only this service may enter. It appears there once a
version serves, and disappears when the worker ends.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from bunriwiki.artifacts.answers import Answers
from bunriwiki.ipc.frames import LENGTH, PROBE, AnswersDecoder, BrokenFrameError, batch_frame, content_length

SOCKET, READY = ".sock", ".ready"  # suffixes of a worker's socket, and of the file beside it that exists while it answers
RESCAN = 0.2  # seconds between two scans of the folder
AVOIDED = 0.5  # seconds without calls to a worker that closed a connection: it may be dying although it still listens
NO_WORKER = 0.02  # seconds between two scans while there is no worker

AnswerT = TypeVar("AnswerT")


class ConnectionLostError(Exception):
    """The worker closed the connection before it answered: it died, or was about to end."""


class _Connection(asyncio.Protocol):
    """A connection that carries one call at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None
        self._reply: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not a subclass

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
        """Send the frame `data`, and return the content of the reply frame. Raises ConnectionLostError."""
        if self.closed or self._transport is None:
            raise ConnectionLostError("the worker closed the connection")
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        try:
            return await self._reply
        finally:
            self._reply = None

    def close(self) -> None:
        """Close the connection at once, and with it the current call."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()


class _Worker:
    """A worker's socket, its idle connections, and the number of running calls."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.calls = 0
        self._idle: list[_Connection] = []

    async def call(self, data: bytes | bytearray) -> bytes:
        """Send the frame `data`, and return the content of the reply frame. A cancelled call closes its connection.

        Raises ConnectionLostError, and OSError if no connection can be opened.
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
    """Sends batches to the workers whose sockets are in `folder`. Not thread-safe: use it from one event loop."""

    def __init__(self, folder: Path, answers: type[AnswerT]) -> None:
        self._folder = folder
        self._decoder = AnswersDecoder(answers)
        self._workers: dict[str, _Worker] = {}
        self._avoided: dict[str, float] = {}  # by path: the loop time until which it is not used
        self._scanned = float("-inf")
        self._turns = itertools.count()

    async def predict(self, inputs: Sequence[Any], version: str) -> Answers[AnswerT]:
        """The answers of `version`; without results if the worker does not have it in memory (see `Answers`).

        Waits until there is a worker. The caller sets the deadline by cancelling the call. Raises ConnectionLostError if the
        worker dies meanwhile, BatchError if the whole batch failed, BrokenFrameError.
        """
        data = batch_frame(version, inputs)
        while True:
            worker = await self._least_busy()
            try:
                content = await worker.call(data)
            except ConnectionLostError:
                self._avoid(worker)
                raise
            except OSError:  # no connection: the worker has ended, or is about to
                self._forget(worker)
                continue
            return self._decoder.decode(content)

    async def is_ready(self) -> bool:
        """Whether a worker answers. If no worker answers, waits for those that are stuck: the caller sets the deadline."""
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
        first = next(self._turns)  # equally busy workers take turns
        rotated = (workers[(first + number) % len(workers)] for number in range(len(workers)))
        return min(rotated, key=lambda worker: worker.calls)

    async def _answers(self, worker: _Worker) -> bool:
        try:
            return await worker.call(PROBE) == b""
        except (ConnectionLostError, OSError):
            self._avoid(worker)
            return False

    def _scan(self) -> None:
        """Find the workers that appeared or disappeared."""
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
