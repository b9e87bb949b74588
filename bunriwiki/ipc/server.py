"""The runner's side of the calls from the gateway: a thread per connection, one batch at a time.

There is no event loop: the thread that receives a batch answers it. A gateway worker keeps few connections, each with one
batch at a time, so there are few threads.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from loguru import logger

from bunriwiki.artifacts.answers import Answers, Ran
from bunriwiki.ipc.frames import PROBE, BatchDecoder, BrokenFrameError, Content, answers_frame, error_frame, receive
from bunriwiki.ipc.trace import current_trace

InputT = TypeVar("InputT")
AnswerT = TypeVar("AnswerT")


def frames(connection: socket.socket) -> Iterator[Content]:
    """The contents of received frames, until the other side closes the connection. Raises BrokenFrameError, OSError."""
    while (content := receive(connection)) is not None:
        yield content


class Replies(Generic[InputT, AnswerT]):
    """Converts the frame of a batch of the type `inputs` into the frame with the answers of `answer(inputs, version)`.

    An exception from `answer` is logged and becomes the error of that batch.
    """

    def __init__(self, model: str, inputs: type[InputT], answer: Callable[[Sequence[InputT], str], Answers[AnswerT]]) -> None:
        self._model = model
        self._decoder = BatchDecoder(inputs)
        self._answer = answer

    def to(self, content: Content) -> bytes | bytearray:
        """The reply frame to a frame with this content. Raises BrokenFrameError if the content is not a batch."""
        if not content:
            return PROBE
        batch = self._decoder.decode(content)
        current_trace.set(batch.trace)  # until the next batch of this thread
        try:
            began = time.time_ns()
            answers = self._answer(batch.inputs, batch.version)
            if batch.trace is not None and batch.trace.sampled:
                answers = replace(answers, ran=Ran(began, time.time_ns(), os.getpid()))
            return answers_frame(answers)
        except Exception as error:
            logger.exception("a batch of {} could not be answered", self._model)
            return error_frame(self._model, batch.version, f"{type(error).__name__}: {error}"[:500])


class BatchTurn:
    """Admits one batch at a time: a second would only compete for the same cores.

    A batch that takes longer than `deadline` seconds no longer keeps others waiting: its callers have given up by then.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._changed = threading.Condition()
        self._number = 0  # of the last batch that was admitted
        self._until: float | None = None  # when it no longer keeps others waiting; None: no batch is being answered

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn, and keep it until the end of the `with` block."""
        with self._changed:
            while self._until is not None and (left := self._until - time.monotonic()) > 0:
                self._changed.wait(left)
            self._number += 1
            mine, self._until = self._number, time.monotonic() + self._deadline
        try:
            yield
        finally:
            with self._changed:
                if self._number == mine:
                    self._until = None
                    self._changed.notify()


class IpcServer(Generic[InputT, AnswerT]):
    """Answers batches that arrive on the socket `listening`, with `answer(inputs, version)`, one at a time.

    A connection that sends anything but a batch of the type `inputs` is closed. `deadline`: see `BatchTurn`.
    """

    def __init__(
        self,
        model: str,
        listening: socket.socket,
        inputs: type[InputT],
        answer: Callable[[Sequence[InputT], str], Answers[AnswerT]],
        deadline: float,
    ) -> None:
        self._model = model
        self._listening = listening
        self._answer = answer
        self._replies = Replies(model, inputs, self._answer_in_turn)
        self._turn = BatchTurn(deadline)
        self._changed = threading.Condition()
        self._connections: dict[socket.socket, bool] = {}  # whether a frame is being answered
        self._closing = False

    def start(self) -> None:
        """Start to answer, in threads of its own."""
        threading.Thread(target=self._accept, name=f"ipc server of {self._model}", daemon=True).start()

    def close(self, seconds: float) -> None:
        """Accept no new batches, and wait at most `seconds` for those that are being answered."""
        with self._changed:
            self._closing = True
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
            self._listening.close()
            for connection, busy in self._connections.items():
                if not busy:
                    _end(connection)
            self._changed.wait_for(lambda: not any(self._connections.values()), seconds)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError as error:
                if self._closing:
                    return
                logger.error("the runner of {} cannot accept a connection: {}", self._model, error)
                time.sleep(0.1)  # for example because there are no free descriptors at the moment
                continue
            with self._changed:
                if self._closing:
                    connection.close()
                    return
                self._connections[connection] = False
            threading.Thread(target=self._serve, args=(connection,), name=f"batches of {self._model}", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            for content in frames(connection):
                if not self._begin(connection):
                    return  # the client calls another worker
                connection.sendall(self._replies.to(content))
                if self._end_of_batch(connection):
                    return
        except BrokenFrameError as error:
            logger.error("a connection to the runner of {} was closed: {}", self._model, error)
        except OSError as error:  # a gateway worker died, or cancelled the call
            logger.debug("a connection to the runner of {} ended: {}", self._model, error)
        finally:
            with self._changed:
                del self._connections[connection]
                self._changed.notify_all()
            connection.close()

    def _begin(self, connection: socket.socket) -> bool:
        with self._changed:
            if not self._closing:
                self._connections[connection] = True
            return not self._closing

    def _end_of_batch(self, connection: socket.socket) -> bool:
        with self._changed:
            self._connections[connection] = False
            self._changed.notify_all()
            return self._closing

    def _answer_in_turn(self, inputs: Sequence[InputT], version: str) -> Answers[AnswerT]:
        with self._turn.taken():
            return self._answer(inputs, version)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side closed it first
        connection.shutdown(socket.SHUT_RDWR)
