"""A version in a sandbox, that answers what it is asked: `runners/evaluation.py` at the other end of a pair of sockets.

The pair has no address: nobody else can reach it. What comes back is other people's: it is bounded in size and time before it
is read, decoded into typed answers, and held to the manifest (`checks.py`).
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.answers import Answers, Classification, Detections
from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.ipc.frames import PROBE, AnswersDecoder, BatchError, BrokenFrameError, CutFrameError, batch_frame, receive
from model_sync.errors import (
    ImportCrashedError,
    RejectedError,
    ReportedEnvironmentError,
    SyncCancelledError,
)
from model_sync.evaluation.checks import check_answers
from model_sync.evaluation.report import Answer
from model_sync.sandbox.output import printable
from model_sync.sandbox.run import Limits, run_sandboxed

MAX_BYTES = 2**21  # of a frame: eight photos with as many boxes as are looked at take half of it
ANSWER_SECONDS = 120.0  # that a batch may take: it has the lowest priority on a machine that may be busy
ENDING = 5.0  # seconds from the end of the connection to that of the process
POLL_SECONDS = 0.1  # seconds between two looks at whether the sidecar ends

DECODERS: dict[str, AnswersDecoder[Any]] = {
    "yolo": AnswersDecoder(Detections),
    "kcbert": AnswersDecoder(Classification),
    "sentiment": AnswersDecoder(Classification),
}


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """A version on disk."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Sandboxes:
    """How versions are held: the data plane's interpreter, the folder to write below, and the limits of each.

    The limit of seconds is over the whole evaluation.
    """

    python: Path
    scratch: Path
    limits: Limits
    stopping: threading.Event


class TooLongError(ImportCrashedError):
    """The evaluation as a whole took too long, whoever is asked at its end."""


@dataclass(frozen=True, slots=True)
class Clock:
    """When the evaluation has to be over, and whether the sidecar ends."""

    end: float
    seconds: float
    stopping: threading.Event

    @classmethod
    def start(cls, seconds: float, stopping: threading.Event) -> Clock:
        return cls(time.monotonic() + seconds, seconds, stopping)


class AnsweringVersion:
    """Answers batches. Raises RejectedError where it does not answer as it has to, ImportCrashedError where it dies, hangs, or
    the evaluation takes too long, ImportEnvironmentError where this machine is at fault, SyncCancelledError."""

    def __init__(self, manifest: Manifest, connection: socket.socket, ended: Future[Any], clock: Clock) -> None:
        self._manifest = manifest
        self._decoder = DECODERS[manifest.model]
        self._connection = connection
        self._connection.setblocking(False)
        self._ended = ended
        self._clock = clock

    def wait_until_ready(self) -> None:
        """Wait until it is loaded and warm."""
        if self._exchange(PROBE, math.inf):
            raise RejectedError("it answered before it was asked")

    def ask(self, inputs: Sequence[Any]) -> tuple[list[Answer], float]:
        """An answer per input, in order, and the milliseconds from the question to the last byte of the answer."""
        question = batch_frame(self._manifest.version, inputs)
        started = time.perf_counter()
        content = self._exchange(question, ANSWER_SECONDS)
        took = 1000 * (time.perf_counter() - started)
        try:
            answers: Answers[Any] = self._decoder.decode(content)
        except BatchError as error:
            raise RejectedError(f"{len(inputs)} inputs failed: {printable(str(error))}") from None
        except BrokenFrameError as error:
            raise RejectedError(printable(str(error))) from None
        return check_answers(answers.results, len(inputs), self._manifest), took

    def _exchange(self, question: bytes | bytearray, seconds: float) -> Any:
        """The content of the frame that answers the frame `question`."""
        stream = _Stream(self._connection, self._clock, seconds)
        try:
            if stream.has_come() and receive(stream, MAX_BYTES) is not None:
                raise RejectedError("it answered before it was asked")
            stream.send(question)
            content = receive(stream, MAX_BYTES)
        except (CutFrameError, ConnectionError):
            content = None
        except BrokenFrameError as error:
            raise RejectedError(printable(str(error))) from None
        if content is None:
            self._say_why_it_ended()
        return content

    def _say_why_it_ended(self) -> None:
        try:
            self._ended.result(ENDING)
        except (
            ReportedEnvironmentError
        ) as error:  # it has nothing to say of this machine, and other people's code may say anything
            raise ImportCrashedError(f"the import ended: {error}") from error
        except TimeoutError:
            raise ImportCrashedError("the import closed its connection") from None
        raise ImportCrashedError("the import ended before it had answered")


class _Stream:
    """A socket that does not block, read and written until a deadline, or until the sidecar ends."""

    def __init__(self, connection: socket.socket, clock: Clock, seconds: float) -> None:
        self._connection = connection
        self._clock = clock
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def has_come(self) -> bool:
        """Whether there is something to read, or the end."""
        return self._is_there(select.POLLIN, 0)

    def recv(self, size: int, /) -> bytes:
        self._wait(select.POLLIN)
        return self._connection.recv(size)

    def recv_into(self, buffer: memoryview, /) -> int:
        self._wait(select.POLLIN)
        return self._connection.recv_into(buffer)

    def send(self, data: bytes | bytearray) -> None:
        """All of it."""
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLOUT)
            rest = rest[self._connection.send(rest) :]

    def _wait(self, event: int) -> None:
        there = False
        while not there:  # time is looked at before each part of a frame: parts may come for ever
            if self._clock.stopping.is_set():
                raise SyncCancelledError
            now = time.monotonic()
            if now > self._clock.end:
                raise TooLongError(f"the import was not done after {self._clock.seconds:g} s")
            if now > self._end:
                raise ImportCrashedError(f"the import did not answer within {self._seconds:g} s")
            there = self._is_there(event, POLL_SECONDS)

    def _is_there(self, event: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._connection, event)
        return bool(poll.poll(1000 * seconds))


@contextlib.contextmanager
def answering(version: VersionFolder, name: str, sandboxes: Sandboxes, clock: Clock) -> Iterator[AnsweringVersion]:
    """The version, loaded and warm, in a process of its own that ends with the `with`.

    It may read nothing but the version's folder and our code, and write nothing but to its own folder `name`. Raises what
    `AnsweringVersion` does.
    """
    scratch = sandboxes.scratch / name
    scratch.mkdir()
    ours, theirs = socket.socketpair()
    ending = threading.Event()

    def run() -> None:
        program: list[str | Path] = [sandboxes.python, "-m", "runners.evaluation", version.manifest.model, version.folder]
        with theirs:  # our copy is closed when the process has ended, which ends the connection
            run_sandboxed(
                [*program, "--fd", str(theirs.fileno())],
                writable=scratch,
                readable=[version.folder],
                limits=replace(sandboxes.limits, seconds=math.inf),  # the clock is over both processes
                stopping=ending,
                keep=(theirs.fileno(),),
            )

    with ours, ThreadPoolExecutor(1, thread_name_prefix=f"evaluation of the {name} version") as thread:
        try:
            one = AnsweringVersion(version.manifest, ours, thread.submit(run), clock)
            one.wait_until_ready()
            yield one
        finally:
            ending.set()
