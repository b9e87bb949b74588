"""The frames of inter-process calls: four bytes of length (little endian), then MessagePack.

A frame contains data only: it is decoded into the typed structures below, and nothing in it names a class or runs code. A frame
that is longer than `MAX_BYTES`, or has another content, ends the connection. An empty frame probes whether the other side is
alive; the reply is an empty frame.

    gateway ── Batch ──► runner
            ◄─ Results ──
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from bunriwiki.artifacts.answers import NO_WORK, Answers, Failure, Ran, Work
from bunriwiki.ipc.trace import TraceContext, current_trace

LENGTH = struct.Struct("<I")
MAX_BYTES = 256 * 2**20  # a batch of eight photos takes 80 MB at most
CHUNK = 64 * 2**10  # most frames are read in a single call

Content = bytes | memoryview

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


class BrokenFrameError(Exception):
    """The received data is not a frame of the expected type."""


class CutFrameError(BrokenFrameError):
    """The connection ended within a frame: the other side died, or cancelled the call."""


class Readable(Protocol):
    """The part of a socket's interface that reading a frame requires."""

    def recv(self, size: int, /) -> bytes: ...

    def recv_into(self, buffer: memoryview, /) -> int: ...


class Batch(msgspec.Struct, Generic[InputT], array_like=True, frozen=True):
    """Inputs that exactly `version` must answer together. `trace` is the batch's place in a trace, if it belongs to one."""

    version: str
    inputs: list[InputT]
    trace: TraceContext | None = None


class Results(msgspec.Struct, Generic[AnswerT], array_like=True, frozen=True):
    """The answers, in the order of the inputs; None for inputs that failed. `failures` has their failures, by position.

    If `error` is not empty, the whole batch failed, through no fault of its inputs.
    """

    model: str
    version: str
    answers: list[AnswerT | None]
    failures: dict[int, Failure]
    error: str = ""
    work: Work = NO_WORK
    ran: Ran | None = None


PROBE = LENGTH.pack(0)
_encoder = msgspec.msgpack.Encoder()


def batch_frame(version: str, inputs: Sequence[Any]) -> bytearray:
    """The frame of a batch, which belongs to the current trace. Raises BrokenFrameError if it is too long."""
    return _frame(Batch(version, list(inputs), current_trace.get()))


def answers_frame(answers: Answers[Any]) -> bytearray:
    """The frame of the answers to a batch. Raises BrokenFrameError if it is too long."""
    failures = {position: result for position, result in enumerate(answers.results) if isinstance(result, Failure)}
    results = [None if position in failures else result for position, result in enumerate(answers.results)]
    return _frame(Results(answers.model, answers.version, results, failures, work=answers.work, ran=answers.ran))


def error_frame(model: str, version: str, error: str) -> bytearray:
    """The frame that reports that a whole batch failed. Characters of `error` that cannot be encoded become question marks."""
    return _frame(Results(model, version, [], {}, error.encode("utf-8", "replace").decode()))


def _frame(content: Batch[Any] | Results[Any]) -> bytearray:
    buffer = bytearray(LENGTH.size)
    _encoder.encode_into(content, buffer, LENGTH.size)
    length = len(buffer) - LENGTH.size
    if length > MAX_BYTES:
        raise BrokenFrameError(f"a frame of {length} bytes; at most {MAX_BYTES} are sent")
    LENGTH.pack_into(buffer, 0, length)
    return buffer


class BatchDecoder(Generic[InputT]):
    """Decodes batches of inputs of the type `inputs`."""

    def __init__(self, inputs: type[InputT]) -> None:
        self._decoder = msgspec.msgpack.Decoder(Batch[inputs])  # type: ignore[valid-type]

    def decode(self, content: Content) -> Batch[InputT]:
        """The batch in a frame's content. Raises BrokenFrameError."""
        try:
            return self._decoder.decode(content)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise BrokenFrameError(f"not a batch: {error}") from None


class BatchError(Exception):
    """The runner could not answer a batch, through no fault of its inputs."""


class AnswersDecoder(Generic[AnswerT]):
    """Decodes answers of the type `answers`."""

    def __init__(self, answers: type[AnswerT]) -> None:
        self._decoder = msgspec.msgpack.Decoder(Results[answers])  # type: ignore[valid-type]

    def decode(self, content: Content) -> Answers[AnswerT]:
        """The answers in a frame's content. Raises BrokenFrameError, and BatchError if the whole batch failed."""
        try:
            results: Results[AnswerT] = self._decoder.decode(content)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise BrokenFrameError(f"not the answers to a batch: {error}") from None
        if results.error:
            raise BatchError(results.error)
        merged: list[AnswerT | Failure] = []
        for position, answer in enumerate(results.answers):
            result = results.failures.get(position) if answer is None else answer
            if result is None:
                raise BrokenFrameError(f"input {position} has neither an answer nor a failure")
            merged.append(result)
        return Answers(results.model, results.version, tuple(merged), results.work, ran=results.ran)


def content_length(start: bytes | bytearray, max_bytes: int = MAX_BYTES) -> int:
    """The length that a frame's first four bytes state. Raises BrokenFrameError if it is more than `max_bytes`."""
    (length,) = LENGTH.unpack_from(start)
    if length > max_bytes:
        raise BrokenFrameError(f"a frame of {length} bytes is announced; at most {max_bytes} are accepted")
    return int(length)


def receive(connection: Readable, max_bytes: int = MAX_BYTES) -> Content | None:
    """The content of the next frame, of at most `max_bytes`; None if the connection was closed between two frames.

    Each side must wait for the other's frame before it sends its next: all bytes received together count as one frame. Raises
    BrokenFrameError (CutFrameError), and OSError (TimeoutError if the socket has a timeout).
    """
    received = connection.recv(CHUNK)
    if not received:
        return None
    while len(received) < LENGTH.size:
        more = connection.recv(CHUNK)
        if not more:
            raise CutFrameError("the connection ended within a frame")
        received += more
    length = content_length(received, max_bytes)
    content = memoryview(received)[LENGTH.size :]
    if len(content) == length:
        return content
    if len(content) > length:
        raise BrokenFrameError("more bytes were received than the frame's length")
    whole = bytearray(length)
    whole[: len(content)] = content
    rest = memoryview(whole)[len(content) :]
    while rest:
        read = connection.recv_into(rest)
        if not read:
            raise CutFrameError("the connection ended within a frame")
        rest = rest[read:]
    return memoryview(whole)
