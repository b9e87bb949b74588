"""Runs a version in a sandbox and sends it inputs: `runners/evaluation.py` answers at the other end of a socket pair.

A socket pair has no address, so no other process can connect to it. The answers are untrusted: their size and time are bounded
before they are read, they are decoded into typed answers, and these are validated against the manifest (`checks.py`).
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bunriwiki.artifacts.answers import Answers
from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.artifacts.models import SPECS
from bunriwiki.ipc.frames import PROBE, AnswersDecoder, BatchError, BrokenFrameError, CutFrameError, batch_frame, receive
from bunriwiki.telemetry.cpu import CpuTime, waited_seconds
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
from model_sync.sandbox.timeouts import check_cause

MAX_BYTES = 2**21  # of a frame; the answers to eight photos with MAX_BOXES boxes each take half of it
ANSWER_SECONDS = 120.0  # that a batch may take: the sandbox has the lowest priority on a machine that may be busy
EXIT_SECONDS = 5.0  # that the process may take to exit after its connection ended
POLL_SECONDS = 0.1  # between two checks whether the sidecar is shutting down


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """A version on disk: its folder, and the manifest in it."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """How versions run: the data plane's interpreter, the folder below which they write, and the limits of each process.

    The limit of seconds applies to the whole evaluation.
    """

    python: Path
    scratch: Path
    limits: Limits
    stopping: threading.Event


class EvaluationTimeoutError(ImportCrashedError):
    """The evaluation as a whole took too long, whichever version was answering at that moment."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the evaluation must be finished, as `time.monotonic()`, and whether the sidecar is shutting down."""

    end: float
    seconds: float
    stopping: threading.Event

    @classmethod
    def start(cls, seconds: float, stopping: threading.Event) -> Deadline:
        """A deadline in so many seconds from now."""
        return cls(time.monotonic() + seconds, seconds, stopping)


class AnsweringVersion:
    """A version in a sandbox that answers batches.

    Its methods raise RejectedError if an answer is invalid; ImportCrashedError if the process crashes, hangs, or the evaluation
    takes too long; UndecidedError if it takes too long because the machine is busy; ImportEnvironmentError if the environment
    is at fault; SyncCancelledError. `pid` is the process' id, once it has started.
    """

    def __init__(
        self,
        manifest: Manifest,
        connection: socket.socket,
        process: Future[Any],
        deadline: Deadline,
        pid: Future[int],
    ) -> None:
        self._manifest = manifest
        self._decoder: AnswersDecoder[Answer] = AnswersDecoder(SPECS[manifest.model].answer)
        self._connection = connection
        self._connection.setblocking(False)
        self._process = process
        self._deadline = deadline
        self._pid = pid

    def wait_until_ready(self) -> None:
        """Wait until the version is loaded and warmed up."""
        if self._exchange(PROBE, math.inf)[0]:
            raise RejectedError("it sent an answer before a request")

    def answer(self, inputs: Sequence[Any]) -> tuple[list[Answer], float]:
        """An answer per input, in order, and the milliseconds from sending the batch to the last byte of the answers.

        The time in which the version or this thread waited for a CPU core does not count: other programs are the cause of it.
        (The version's main thread, where it computes. It could only hide its own slowness by waiting for threads of its own
        that compute, so it takes at least the CPU time of all its threads.)
        """
        request = batch_frame(self._manifest.version, inputs)
        started, used = time.perf_counter(), self._used()
        content, waited = self._exchange(request, ANSWER_SECONDS)
        elapsed = time.perf_counter() - started
        used = self._used().since(used)
        took = 1000 * max(elapsed - waited - used.waited, used.ran)
        try:
            answers: Answers[Any] = self._decoder.decode(content)
        except BatchError as error:
            raise RejectedError(f"{len(inputs)} inputs failed: {printable(str(error))}") from None
        except BrokenFrameError as error:
            raise RejectedError(printable(str(error))) from None
        return check_answers(answers.results, len(inputs), self._manifest), took

    def _used(self) -> CpuTime:
        return CpuTime.of(self._pid.result()) if self._pid.done() else CpuTime()

    def _exchange(self, request: bytes | bytearray, seconds: float) -> tuple[Any, float]:
        """Send the frame `request`; the content of the frame that answers it, and how long it waited for this thread."""
        stream = _Stream(self._connection, self._deadline, seconds, self._used)
        try:
            if stream.is_readable() and receive(stream, MAX_BYTES) is not None:
                raise RejectedError("it sent an answer before a request")
            stream.send(request)
            content = receive(stream, MAX_BYTES)
        except (CutFrameError, ConnectionError):
            content = None
        except BrokenFrameError as error:
            raise RejectedError(printable(str(error))) from None
        if content is None:
            self._raise_why_it_ended()
        return content, waited_seconds() - stream.waited_before

    def _raise_why_it_ended(self) -> None:
        try:
            self._process.result(EXIT_SECONDS)
        except ReportedEnvironmentError as error:  # not credible: our program reports none, so third-party code did
            raise ImportCrashedError(f"the import ended: {error}") from error
        except TimeoutError:
            raise ImportCrashedError("the import closed its connection") from None
        raise ImportCrashedError("the import ended before it answered")


class _Stream:
    """A non-blocking socket, read and written for at most `seconds`, until the deadline, or until the sidecar shuts down.

    Raises ImportCrashedError, EvaluationTimeoutError and SyncCancelledError respectively; UndecidedError instead of the first
    two if the other side, which `used` so much CPU time so far, waited for a core meanwhile.
    """

    def __init__(self, connection: socket.socket, deadline: Deadline, seconds: float, used: Callable[[], CpuTime]) -> None:
        self._connection = connection
        self._deadline = deadline
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._used = used
        self._used_before = used()
        self.waited_before = waited_seconds()  # by this thread, before the last poll: what it waited since delayed the answer

    def is_readable(self) -> bool:
        """Whether bytes have arrived, or the end of the stream."""
        return self._poll(select.POLLIN, 0)

    def recv(self, size: int, /) -> bytes:
        self._wait(select.POLLIN)
        return self._connection.recv(size)

    def recv_into(self, buffer: memoryview, /) -> int:
        self._wait(select.POLLIN)
        return self._connection.recv_into(buffer)

    def send(self, data: bytes | bytearray) -> None:
        """Send all of `data`."""
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLOUT)
            rest = rest[self._connection.send(rest) :]

    def _wait(self, event: int) -> None:
        ready = False
        while not ready:  # the time is checked before each part of a frame: parts may arrive without end
            if self._deadline.stopping.is_set():
                raise SyncCancelledError
            now = time.monotonic()
            if now > self._deadline.end:
                late = f"the import did not finish within {self._deadline.seconds:g} s"
                check_cause(late, self._deadline.seconds, self._used())
                raise EvaluationTimeoutError(late)
            if now > self._end:
                late = f"the import did not answer within {self._seconds:g} s"
                check_cause(late, self._seconds, self._used().since(self._used_before))
                raise ImportCrashedError(late)
            ready = self._poll(event, POLL_SECONDS)

    def _poll(self, event: int, seconds: float) -> bool:
        self.waited_before = waited_seconds()
        poll = select.poll()
        poll.register(self._connection, event)
        return bool(poll.poll(1000 * seconds))


@contextlib.contextmanager
def answering(version: VersionFolder, name: str, settings: SandboxSettings, deadline: Deadline) -> Iterator[AnsweringVersion]:
    """The version, loaded and warmed up, in a process of its own, which is killed at the end of the `with`.

    The process may read the version's folder and our code only, and write to a new folder `name` in the scratch folder only.
    Raises what the methods of `AnsweringVersion` raise.
    """
    scratch = settings.scratch / name
    scratch.mkdir()
    ours, theirs = socket.socketpair()
    ending = threading.Event()
    pid: Future[int] = Future()

    def run() -> None:
        program: list[str | Path] = [settings.python, "-m", "runners.evaluation", version.manifest.model, version.folder]
        with theirs:  # our copy is closed when the process has ended, which closes the connection
            run_sandboxed(
                [*program, "--fd", str(theirs.fileno())],
                writable=scratch,
                readable=[version.folder],
                limits=replace(settings.limits, seconds=math.inf),  # the deadline covers both processes
                stopping=ending,
                keep=(theirs.fileno(),),
                on_start=pid.set_result,
            )

    with ours, ThreadPoolExecutor(1, thread_name_prefix=f"evaluation of the {name} version") as thread:
        try:
            running = AnsweringVersion(version.manifest, ours, thread.submit(run), deadline, pid)
            running.wait_until_ready()
            yield running
        finally:
            ending.set()
